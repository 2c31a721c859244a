import { type Context, Hono } from 'hono'
import { z } from 'zod'
import { ApiError } from '../../../src/errors.ts'
import type { PluginEnv } from '../../../src/plugin.ts'
import { route } from '../../../src/route.ts'
import { validate } from '../../../src/validate.ts'
import type { Commands } from '../commands/command.ts'
import { ZosError } from '../zos-error.ts'
import { zosErrorResponse } from './errors.ts'

/** What the routes stand on; opened by the first request that needs it. */
export interface HttpParts {
  open(): Promise<{
    readonly commands: Commands
    /** The twin that sends a request; undefined when it does not say. */
    twinOf(c: Context<PluginEnv>, changes: boolean): Promise<number | undefined>
    /** Undefined where the registry is no document of this daemon. */
    readonly document: RegistryDocument | undefined
  }>
  /** Anybody who calls must say who they are. */
  readonly requireAuth: boolean
}

/** The registry where it is a file (spec §11.3). */
export interface RegistryDocument {
  read(): Promise<string>
  /** @throws {Error} Saying what is wrong with it; nothing changed then. */
  replace(text: string): Promise<void>
}

const Params = z.object({
  command: z.string().min(1).max(128).describe('zos.deployment.get, …: see GET /cvmd/plugins'),
})

/** Commands that are accepted now and done later. */
const ACCEPTED: ReadonlySet<string> = new Set(['zos.deployment.deploy', 'zos.deployment.update'])

/** Commands that change something: a request of theirs is taken once. */
const CHANGES: ReadonlySet<string> = new Set([
  ...ACCEPTED,
  'zos.admin.set_public_nic',
  'zos.network.admin.set_public_nic',
])

/** Commands over HTTP (spec §10.5), and the registry for the operator. */
export function zosRoutes({ open, requireAuth }: HttpParts) {
  return new Hono<PluginEnv>()
    .post(
      '/zos/:command',
      route({
        summary: 'Answers a zos command; the body is its payload, who calls is in the headers',
        answers: {
          200: { description: 'The reply', type: 'application/json' },
          202: { description: 'A deployment that was accepted', type: 'application/json' },
        },
      }),
      validate('param', Params),
      async (c) => {
        const { command } = c.req.valid('param')
        try {
          const { commands, twinOf } = await open()
          const free = (commands.classOf(command) ?? 'any') === 'any' && !requireAuth
          const twin = free ? undefined : await twinOf(c, CHANGES.has(command))
          if (requireAuth && twin === undefined) {
            throw new ZosError('authentication', 'this node answers only twins it knows')
          }
          const payload = await c.req.text()
          const { signal } = c.req.raw
          const reply = await commands.dispatch({ command, twin, payload, signal })
          const status = ACCEPTED.has(command) ? 202 : 200
          return c.body(reply, status, { 'content-type': 'application/json' })
        } catch (error) {
          if (error instanceof ZosError) return zosErrorResponse(error)
          throw error
        }
      },
    )
    .get(
      '/zos-registry',
      route({
        summary: 'The registry document',
        listener: 'operator',
        scope: 'zos:registry',
        answers: { 200: { description: 'As it is in force', type: 'application/json' } },
      }),
      async (c) =>
        c.body(await (await documentOf(open)).read(), 200, { 'content-type': 'application/json' }),
    )
    .put(
      '/zos-registry',
      route({
        summary: 'Replaces the registry document',
        listener: 'operator',
        scope: 'zos:registry',
        answers: { 204: { description: 'It is in force' } },
      }),
      async (c) => {
        const document = await documentOf(open)
        await document.replace(await c.req.text())
        return c.body(null, 204)
      },
    )
}

async function documentOf(open: HttpParts['open']): Promise<RegistryDocument> {
  const { document } = await open()
  if (document) return document
  throw new ApiError(
    404,
    'ZOS_NO_DOCUMENT',
    'The registry is the chain, there is no document: remove chain_url to have one',
  )
}
