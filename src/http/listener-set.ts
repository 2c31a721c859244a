import type { ConsolaInstance } from 'consola'
import type { ListenerConfig } from '../config/resolve.ts'
import { messageOf } from '../errors.ts'
import type { EventSink } from '../events/sink.ts'
import type { Handler } from '../runtime.ts'
import { TlsFiles } from '../tls/files.ts'
import { answersHttp, type Listener, openListener } from './listen.ts'

/** An open listener and, with TLS, the files its certificate comes from. */
export interface OpenListener {
  readonly listener: Listener
  readonly tls: TlsFiles | undefined
}

/** What listeners are opened with. */
export interface ListenerSetParts {
  /** What answers the requests of a listener, by its name. */
  readonly handler: (name: string) => Handler
  readonly log: ConsolaInstance
  readonly events: EventSink
}

/** The listeners of a running daemon. Opening is apart from using, so that a reload can fail. */
export class ListenerSet {
  readonly #parts: ListenerSetParts
  #open: readonly OpenListener[] = []

  constructor(parts: ListenerSetParts) {
    this.#parts = parts
  }

  /** Names of the listeners in use. */
  get names(): string[] {
    return this.#open.map(({ listener }) => listener.name)
  }

  /** Whether one answers a real request. */
  async alive(): Promise<boolean> {
    const [first] = this.#open
    return first !== undefined && answersHttp(first.listener)
  }

  /**
   * Opens those of `configs` that are not open yet; they are not in use before {@link use}.
   *
   * @throws {Error} What kept one from opening; those opened by this call are closed again.
   */
  async open(configs: readonly ListenerConfig[]): Promise<readonly OpenListener[]> {
    const names = this.names
    const opened: OpenListener[] = []
    try {
      for (const config of configs) {
        if (!names.includes(config.name)) opened.push(await this.#openOne(config))
      }
    } catch (error) {
      await closeAll(opened, 0)
      throw error
    }
    return opened
  }

  /**
   * Takes opened listeners into use and closes those no longer configured, letting their requests
   * finish in the background.
   *
   * @returns Warnings about changes that an open listener cannot take over.
   */
  async use(
    opened: readonly OpenListener[],
    configs: readonly ListenerConfig[],
    deadlineMs: number,
  ): Promise<string[]> {
    const warnings: string[] = []
    const removed = this.#open.filter(
      ({ listener }) => !configs.some(({ name }) => name === listener.name),
    )
    const kept = this.#open.filter((open) => !removed.includes(open))
    for (const open of kept) {
      const config = configs.find(({ name }) => name === open.listener.name)
      if (config && endpointOf(config) !== endpointOf(open.listener.config)) {
        warnings.push(
          `${config.name}: limits, mode, group, tls paths and "peer" change at the next start`,
        )
      }
      await this.#reloadTls(open)
    }
    for (const { listener } of opened) {
      const waiting = listener.config.late && listener.port === 0
      if (!waiting) this.#parts.log.info(`Listening on ${addressOf(listener)}`)
    }
    this.#open = [...kept, ...opened]
    closeAll(removed, deadlineMs).catch((error) => this.#parts.log.warn(messageOf(error)))
    return warnings
  }

  /** Accepts no more, lets running requests finish until the deadline. */
  async close(deadlineMs: number): Promise<void> {
    await closeAll(this.#open, deadlineMs)
  }

  async #openOne(config: ListenerConfig): Promise<OpenListener> {
    const { handler, log, events } = this.#parts
    const tls = config.tls && this.#tlsFiles(config.tls)
    const loaded = await tls?.load()
    if (loaded?.created) log.info(`Made a self-signed certificate for ${config.name}`)
    const waiting = `The address of ${config.name} is not there yet: waiting for it`
    const listener = await openListener(config, loaded?.pair, handler(config.name), {
      waiting: () => log.info(waiting),
      opened: () => log.info(`Listening on ${config.name}`),
      failed: (error) => {
        log.error(messageOf(error))
        events.append(messageOf(error), { level: 'error' })
      },
    })
    tls?.watch((next) => {
      listener.replaceTls(next)
      events.append(`certificate of ${config.name} was reloaded`)
    })
    return { listener, tls }
  }

  #tlsFiles(tls: NonNullable<ListenerConfig['tls']>): TlsFiles {
    const { log, events } = this.#parts
    return new TlsFiles({
      certPath: tls.cert,
      keyPath: tls.key,
      createIfMissing: tls.create_if_missing,
      hosts: tls.hosts,
      clients: clientFiles(tls),
      report: (message, level) => {
        log[level](message)
        events.append(message, { level })
      },
    })
  }

  async #reloadTls({ listener, tls }: OpenListener): Promise<void> {
    try {
      if (tls && (await tls.reload()) && tls.pair) listener.replaceTls(tls.pair)
    } catch (error) {
      this.#parts.log.warn(`Certificate of ${listener.name} not reloaded: ${messageOf(error)}`)
    }
  }
}

/** Closes listeners that {@link ListenerSet.open} gave. */
export async function closeAll(
  listeners: readonly OpenListener[],
  deadlineMs: number,
): Promise<void> {
  for (const { tls } of listeners) tls?.stop()
  await Promise.all(listeners.map(({ listener }) => listener.close(deadlineMs)))
}

function clientFiles({ client_ca, client_crl }: NonNullable<ListenerConfig['tls']>) {
  return client_ca === undefined ? undefined : { client_ca, client_crl }
}

/** With port 0 in the configuration the kernel chose one, which is what a person needs to know. */
function addressOf({ name, port }: Listener): string {
  return port === 0 ? name : name.replace(/:\d+$/, `:${port}`)
}

/** The part of a listener's configuration that is fixed once it is open. */
function endpointOf(config: ListenerConfig): string {
  return JSON.stringify([
    config.mode,
    config.group,
    config.tls,
    config.auth.includes('peer'),
    config.max_head_bytes,
    config.head_timeout_ms,
    config.idle_timeout_ms,
    config.max_connections,
    config.max_connections_per_peer,
  ])
}
