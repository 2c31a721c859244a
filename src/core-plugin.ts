import { Hono } from 'hono'
import * as v from 'valibot'
import { z } from 'zod'
import type { AttestedLogAnswer } from './attest/attested-log.ts'
import { callOf } from './attester/call.ts'
import { deviceProblem } from './attester/problems.ts'
import type { PluginDecision } from './config/resolve.ts'
import { ConfigError, formatIssue } from './config/toml.ts'
import type { CallOptions } from './device/devices.ts'
import { ApiError, messageOf } from './errors.ts'
import { openapi } from './openapi.ts'
import { definePlugin, type PluginEnv } from './plugin.ts'
import type { RouteEntry } from './registry.ts'
import { route } from './route.ts'
import { runtimeVersion } from './runtime.ts'
import { validate } from './validate.ts'
import { VERSION } from './version.ts'

/** One plugin in `GET /cvmd/plugins`. */
export interface PluginReport {
  readonly name: string
  readonly summary: string
  readonly state: PluginDecision['state'] | 'failed'
  readonly reason: string
  readonly requires: unknown
  readonly exposure: 'local' | 'network'
  readonly routes: readonly { readonly method: string; readonly path: string }[]
}

/** What the core's own routes show and do; the daemon stands behind it. */
export interface CoreView {
  plugins(): readonly PluginReport[]
  /** The routes one listener serves. */
  routes(listener: string): readonly RouteEntry[]
  /** Why plugins that should serve cannot, by name; empty when all can. */
  notReady(): Readonly<Record<string, string>>
  metrics(): Promise<string>
  /** What `--simulate` stands in for; null on a real machine. */
  readonly simulated: 'tdx' | 'nitro' | null
  /** Evidence of the event log as it is now. */
  attestLog(nonce: Uint8Array, options: CallOptions): Promise<AttestedLogAnswer>
  /** @throws {ConfigError} When the new configuration is not good; nothing changed then. */
  reload(): Promise<ReloadReport>
}

/** What a reload changed. */
export interface ReloadReport {
  readonly started: readonly string[]
  readonly stopped: readonly string[]
  readonly kept: readonly string[]
  readonly listeners: readonly string[]
  readonly warnings: readonly string[]
}

const AttestedLogQuery = z.object({
  nonce: z
    .string()
    .regex(/^([0-9a-fA-F]{2}){1,64}$/, 'expected 1 to 64 bytes in hex')
    .describe('Bytes never used before, in hex; the evidence is bound to them'),
})

const Names = z.array(z.string())
const ReloadAnswer = z.object({
  started: Names,
  stopped: Names,
  kept: Names,
  listeners: Names,
  warnings: Names,
})

/** The routes every operator listener has, whatever plugins it serves: `/livez` and `/cvmd/…`. */
export function corePlugin(view: CoreView) {
  return definePlugin({
    name: 'cvmd',
    summary: 'Discovery, readiness, metrics and reload',
    config: v.strictObject({}),
    exposure: 'network',
    setup() {
      const routes = new Hono<PluginEnv>()
        .get('/livez', route({ summary: 'Whether the process is alive' }), () => alive())
        .get('/cvmd/version', route({ summary: 'Version of cvmd and of its runtime' }), (c) =>
          c.json({ version: VERSION, runtime: runtimeVersion() }),
        )
        .get(
          '/cvmd/plugins',
          route({ summary: 'Every plugin with its state, the reason, needs and routes' }),
          (c) => c.json({ simulated: view.simulated, plugins: view.plugins() }),
        )
        .get(
          '/cvmd/openapi.json',
          route({ summary: 'OpenAPI 3.1 document of this listener' }),
          (c) => c.json(openapi(view.routes(c.env.listener))),
        )
        .get(
          '/cvmd/ready',
          route({ summary: 'Whether every enabled plugin can serve: 200, else 503' }),
          (c) => {
            const waiting = view.notReady()
            const ready = Object.keys(waiting).length === 0
            return c.json({ ready, waiting }, ready ? 200 : 503)
          },
        )
        .get(
          '/cvmd/metrics',
          route({
            summary: 'Figures in the Prometheus text format',
            answers: { 200: { description: 'Metrics', type: 'text/plain' } },
          }),
          async (c) =>
            c.body(await view.metrics(), 200, {
              'content-type': 'text/plain; version=0.0.4; charset=utf-8',
            }),
        )
        .get(
          '/cvmd/attested-log',
          route({
            summary: 'Head of the event chain with evidence bound to it and to a nonce',
            scope: 'events:read',
          }),
          validate('query', AttestedLogQuery),
          async (c) => {
            const nonce = new Uint8Array(Buffer.from(c.req.valid('query').nonce, 'hex'))
            try {
              return c.json(await view.attestLog(nonce, callOf(c)))
            } catch (error) {
              throw deviceProblem(error)
            }
          },
        )
        .post(
          '/cvmd/reload',
          route({
            summary: 'Reads the configuration again and applies it whole or not at all',
            scope: 'cvmd:reload',
            long: true,
            answers: { 200: { description: 'What changed', schema: ReloadAnswer } },
          }),
          async (c) => {
            try {
              return c.json(await view.reload())
            } catch (error) {
              throw reloadError(error)
            }
          },
        )
      return { routes }
    },
  })
}

/** A fresh answer each time, because a body can be sent only once. */
function alive(): Response {
  return new Response('{"status":"ok"}\n', { headers: { 'content-type': 'application/json' } })
}

function reloadError(error: unknown): ApiError {
  if (error instanceof ConfigError) {
    const text = error.issues.map((issue) => formatIssue(error.file, issue)).join('\n')
    return new ApiError(422, 'CONFIG_INVALID', text, { cause: error })
  }
  return new ApiError(409, 'RELOAD_FAILED', messageOf(error), { cause: error })
}
