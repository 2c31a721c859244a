import { defineCommand } from 'citty'
import type { TomlTable } from '../config/toml.ts'
import { Daemon } from '../daemon.ts'
import { createLog, logFormat } from '../log.ts'
import type { PrepareOptions } from '../prepare.ts'
import { startWatchdog } from '../systemd.ts'
import { configArgs } from './common.ts'
import { prepareOptions } from './prepare-options.ts'

/** `cvmd serve`: runs the daemon until a signal ends it. */
export const serve = defineCommand({
  meta: { name: 'serve', description: 'Run the daemon (the default command)' },
  args: {
    ...configArgs,
    'listen-addr': {
      type: 'string',
      description: 'Address of the first TCP listener, over the configuration',
      valueHint: 'HOST:PORT',
    },
    'pipe-file': {
      type: 'string',
      description: 'Path of the event FIFO, over the configuration; empty switches it off',
      valueHint: 'FILE',
    },
  },
  async run({ args }) {
    let log = createLog({ level: 'error', format: logFormat(false, process.env) })
    // Before the boot: a plugin may drop a promise while others still start.
    surviveStrays((what, thrown) => log.error(what, thrown))
    // Before it, too: a signal that comes while plugins start must still end them in order.
    let reload = () => {}
    const ended = untilSignal(() => reload())
    const daemon = await Daemon.boot(amended(prepareOptions(args), args))
    log = daemon.log
    // The outcome, good or bad, is in the log and the event log.
    reload = () => void daemon.reload().catch(() => undefined)
    const watchdog = startWatchdog(() => daemon.alive())
    await ended
    watchdog()
    await daemon.stop()
    // A child of an action or a stuck device call must not keep the process.
    process.exit(0)
  },
})

/**
 * What nobody awaited or caught must not end the daemon: a plugin's forgotten promise, or Deno's
 * throw from inside for a child that died of a real-time signal.
 */
function surviveStrays(report: (what: string, thrown: unknown) => void): void {
  process.on('unhandledRejection', (reason) => report('A promise was dropped', reason))
  process.on('uncaughtException', (error) => report('An error was not caught', error))
}

/** Resolves at the first SIGINT or SIGTERM; a second one ends the process at once. */
function untilSignal(hangup: () => void): Promise<void> {
  process.on('SIGHUP', hangup)
  return new Promise((resolve) => {
    process.once('SIGINT', () => resolve())
    process.once('SIGTERM', () => resolve())
  })
}

/** system-api's two flags; there they had no effect, here they do what their help says. */
function amended(
  options: PrepareOptions,
  flags: { readonly 'listen-addr'?: string | undefined; readonly 'pipe-file'?: string | undefined },
): PrepareOptions {
  const address = flags['listen-addr']
  const fifo = flags['pipe-file']
  if (address === undefined && fifo === undefined) return options
  return {
    ...options,
    amend: (source) => {
      const table = structuredClone(source.table)
      if (address !== undefined) setAddress(table, address)
      if (fifo !== undefined) setFifo(table, fifo)
      return { ...source, table, ...(address !== undefined && { defaultAddress: address }) }
    },
  }
}

function setAddress(table: TomlTable, address: string): void {
  if (!Array.isArray(table.listen)) return
  const listen = table.listen as TomlTable[]
  const tcp = listen.find((entry) => 'address' in entry)
  if (tcp) tcp.address = address
  else table.listen = [{ address }, ...listen]
}

function setFifo(table: TomlTable, path: string): void {
  const plugins = (table.plugins ?? {}) as TomlTable
  const { fifo: _, ...eventlog } = (plugins.eventlog ?? {}) as TomlTable
  table.plugins = { ...plugins, eventlog: path === '' ? eventlog : { ...eventlog, fifo: path } }
}
