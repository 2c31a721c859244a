import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createConsola } from 'consola/basic'
import * as v from 'valibot'
import { NO_ATTESTER } from '../../src/attester/none.ts'
import { OPEN } from '../../src/auth/guard.ts'
import { DEFAULT_LIMITS, EventLog } from '../../src/events/log.ts'
import { NO_GPUS } from '../../src/gpu/none.ts'
import { Exchange } from '../../src/http/exchange.ts'
import { buildPipeline, type PipelineOptions } from '../../src/http/pipeline.ts'
import { Metrics } from '../../src/metrics.ts'
import type { AnyPlugin, Caller, Services } from '../../src/plugin.ts'
import { routesOf } from '../../src/registry.ts'
import { setUp } from '../../src/setup.ts'

/** A plugin mounted on the real pipeline, without a socket. */
export interface PluginHost {
  readonly eventLog: EventLog
  readonly metrics: Metrics
  readonly stateDir: string
  /** Sends a request through authentication, routing and the plugin. */
  request(path: string, init?: RequestInit & { caller?: Caller }): Promise<Response>
  start(): Promise<void>
  stop(): Promise<void>
  /** Messages in the event log, oldest first. */
  messages(): string[]
}

/** Sets a plugin up with a configuration (as in the file) and mounts it like a listener would. */
export function hostPlugin(
  plugin: AnyPlugin,
  config: unknown = {},
  options: Partial<PipelineOptions> & { readonly services?: Partial<Services> } = {},
): PluginHost {
  const stateRoot = mkdtempSync(join(tmpdir(), 'cvmd-test-'))
  const eventLog = new EventLog(DEFAULT_LIMITS)
  const metrics = new Metrics()
  const log = createConsola({ level: -999 })
  const parts = {
    eventLog,
    attestation: NO_ATTESTER,
    gpus: NO_GPUS,
    daemon: { plugins: () => [] },
    metrics,
    log,
    stateDir: stateRoot,
    device: { has: () => true, path: (path: string) => path },
  }
  const loaded = setUp(plugin, v.parse(plugin.config, config), parts, options.services ?? {})
  const app = buildPipeline(routesOf(loaded), {
    guard: OPEN,
    maxBodyBytes: 10 * 1024 * 1024,
    requestTimeoutMs: 30_000,
    ...options,
  })
  return {
    eventLog,
    metrics,
    stateDir: loaded.stateDir,
    request: async (path, init = {}) => {
      const request = new Request(`http://localhost${path}`, init)
      const size = init.body === undefined || init.body === null ? undefined : lengthOf(init.body)
      const headers = new Map([...request.headers, ['host', 'localhost']])
      if (size !== undefined) headers.set('content-length', String(size))
      const exchange = new Exchange('test', {
        peer: () => ({ address: '127.0.0.1', port: 50000 }),
        hold: () => undefined,
        header: (name) => headers.get(name),
      })
      return app.fetch(request, exchange)
    },
    start: async () => {
      const { mkdirSync } = await import('node:fs')
      mkdirSync(loaded.stateDir, { recursive: true, mode: 0o700 })
      await loaded.instance.start?.()
      loaded.metrics.publish()
      loaded.unavailable = undefined
    },
    stop: async () => {
      loaded.abort.abort()
      await loaded.instance.stop?.()
      rmSync(stateRoot, { recursive: true, force: true })
    },
    messages: () => eventLog.after(0).map((event) => event.message),
  }
}

function lengthOf(body: unknown): number | undefined {
  if (typeof body === 'string') return new TextEncoder().encode(body).byteLength
  if (body instanceof Uint8Array) return body.byteLength
  return undefined
}
