import { dirname } from 'node:path'
import { Hono } from 'hono'
import { systemApiError } from '../../src/compat/system-api.ts'
import { problem } from '../../src/errors.ts'
import { definePlugin, type PluginEnv, type RoutesOf } from '../../src/plugin.ts'
import { Config } from './config.ts'
import { debugRoutes } from './debug.ts'
import { Fifo } from './fifo.ts'
import { Journal } from './journal.ts'
import { registerMetrics } from './metrics.ts'
import { nativeRoutes } from './native.ts'
import { Recorder } from './recorder.ts'
import { systemApiRoutes } from './system-api.ts'
import { SystemApiView } from './view.ts'
import { WaitingRoom } from './waiting.ts'

const eventlog = definePlugin({
  name: 'eventlog',
  summary: 'Serves the event log: system-api views, pages, a live stream, a FIFO, a journal',
  config: Config,
  uses: ['eventLog'],
  exposure: 'network',
  permissions: ({ fifo }) =>
    fifo === undefined ? {} : { read: [dirname(fifo)], write: [dirname(fifo)], run: ['mkfifo'] },
  renderError(error, c) {
    return /^\/(cvmd|debug)\//.test(c.req.path) ? problem(error) : systemApiError(error)
  },
  setup({ config, services, stateDir, events, metrics, log, signal }) {
    const { eventLog } = services
    const { max_line_bytes: maxLineBytes, fifo: path } = config
    const journal = config.persist
      ? new Journal({
          dir: stateDir,
          maxBytes: config.journal_max_bytes,
          files: config.journal_files,
          failed: (cause) => {
            log.error('Cannot write the event journal', cause)
            events.append(`event journal cannot be written: ${cause.message}`, { level: 'error' })
          },
          recovered: (lost) => {
            events.append(`event journal is written again; ${lost} events are not in it`, {
              level: 'warn',
            })
          },
        })
      : undefined
    const fifo =
      path === undefined
        ? undefined
        : new Fifo({
            path,
            mode: Number.parseInt(config.fifo_mode, 8),
            maxLineBytes,
            log: eventLog,
            events,
            journal,
            stateDir,
          })
    const recorder = new Recorder(eventLog, journal)
    const room = new WaitingRoom(config.max_streams)
    registerMetrics(metrics, { log: eventLog, recorder, room, fifo, journal })
    const routes = new Hono<PluginEnv>()
      .route('/', systemApiRoutes(new SystemApiView(eventLog), recorder, maxLineBytes))
      .route(
        '/',
        nativeRoutes({
          log: eventLog,
          recorder,
          room,
          heartbeatMs: config.heartbeat_s * 1000,
          maxBytes: maxLineBytes,
        }),
      )
    if (config.pprof) routes.route('/', debugRoutes())
    const endWaiting = () => room.close()

    return {
      routes,
      async start() {
        eventLog.resize({ maxEntries: config.max_entries, maxBytes: config.max_bytes })
        if (journal) {
          const { broken, torn } = await journal.open(eventLog)
          if (broken) {
            const message = `event journal moved to ${broken.movedTo}: ${broken.reason}`
            events.append(message, { level: 'error' })
          }
          if (torn > 0) events.append(`event journal: cut off an unfinished write (${torn} bytes)`)
        } else {
          eventLog.settle()
        }
        room.open()
        signal.addEventListener('abort', endWaiting)
        await fifo?.start()
      },
      async stop() {
        endWaiting()
        signal.removeEventListener('abort', endWaiting)
        await fifo?.stop()
        await journal?.close()
      },
    }
  },
})
export default eventlog

/** For `hc<EventlogApi>()`. */
export type EventlogApi = RoutesOf<typeof eventlog>
