import { type Context, Hono } from 'hono'
import { z } from 'zod'
import { ApiError } from '../../../src/errors.ts'
import type { PluginEnv } from '../../../src/plugin.ts'
import { route } from '../../../src/route.ts'
import { validate } from '../../../src/validate.ts'
import type { Commands } from '../commands/command.ts'
import type { CheckOptions } from '../deployment/check.ts'
import { RegistryError } from '../registry/registry.ts'
import { ZosError } from '../zos-error.ts'
import { zosErrorResponse } from './errors.ts'

/** What the routes stand on; opened by the first request that needs it. */
export interface HttpParts {
  /** Whether somebody made a grid node of this daemon, as far as that is known before it is opened. */
  isWanted(): boolean
  /** Whether somebody is a twin without any proof: on a Unix socket, or behind a trusted proxy. */
  isBelieved(c: Context<PluginEnv>): boolean
  open(): Promise<{
    readonly commands: Commands
    /** Whether the daemon is a grid node by now, which answers what anybody may read. */
    isNode(): boolean
    /** The twin that sends a request; undefined when it does not say. */
    twinOf(c: Context<PluginEnv>, once: boolean): Promise<number | undefined>
    /** Undefined where the registry is no document of this daemon. */
    readonly document: RegistryDocument | undefined
  }>
  /** Anybody who calls must say who they are. */
  readonly requireAuth: boolean
  /** How deployments are checked. */
  readonly check: CheckOptions
}

/** The registry where it is a file (spec §11.3). */
export interface RegistryDocument {
  /** The one in force; undefined while there is none. */
  read(): Promise<string | undefined>
  /** Why there is none. */
  problem(): string | undefined
  /** @throws {RegistryError} `REGISTRY_INVALID`, saying what is wrong; nothing changed then. */
  replace(text: string): Promise<void>
}

const Params = z.object({
  command: z.string().min(1).max(128).describe('zos.deployment.get, …: see GET /cvmd/plugins'),
})

const Hashed = z.object({
  hash: z.string().describe('MD5 of the challenge, 32 hex digits; twins sign its 16 bytes'),
  challenge: z.string().describe('Everything that is signed, with its secrets'),
})

/** Commands that are accepted now and done later. */
const ACCEPTED: ReadonlySet<string> = new Set(['zos.deployment.deploy', 'zos.deployment.update'])

/**
 * Commands that change something by the word of their caller alone: a challenge is good for one of
 * them. Deployments carry the signature of their twin, and are of no use a second time.
 */
const ONCE: ReadonlySet<string> = new Set([
  'zos.admin.set_public_nic',
  'zos.network.admin.set_public_nic',
])

/** Commands over HTTP (spec §10.5), and the registry for the operator. */
export function zosRoutes(parts: HttpParts) {
  const { open, requireAuth } = parts
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
          // Strangers, whom the listener lets through to here, open nothing on any other daemon.
          if (!parts.isWanted() && !parts.isBelieved(c)) throw noNode()
          const { commands, twinOf, isNode } = await open()
          const free = (commands.classOf(command) ?? 'any') === 'any' && !requireAuth && isNode()
          const twin = free ? undefined : await twinOf(c, ONCE.has(command))
          if (twin === undefined && !isNode()) throw noNode()
          if (requireAuth && twin === undefined) {
            throw new ZosError('authentication', 'this node answers only twins it knows')
          }
          const payload = await textOf(c)
          if (payload === undefined) throw notUtf8()
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
    .post(
      '/cvmd/zos/hash',
      route({
        summary: 'What the twins of a deployment sign, and what its contract carries',
        listener: 'operator',
        scope: 'zos:read',
        answers: { 200: { description: 'Nothing is stored', schema: Hashed } },
      }),
      async (c) => {
        const { challengeOf, hashOf } = await import('../deployment/hash.ts')
        const { readDeployment } = await import('../deployment/read.ts')
        try {
          const text = await textOf(c)
          if (text === undefined) throw notUtf8()
          const deployment = readDeployment(text, parts.check)
          const hash = Buffer.from(hashOf(deployment)).toString('hex')
          return c.json({ hash, challenge: challengeOf(deployment) })
        } catch (error) {
          if (error instanceof ZosError) {
            throw new ApiError(400, 'ZOS_DEPLOYMENT_INVALID', error.message, { cause: error })
          }
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
      async (c) => {
        const document = await documentOf(open)
        const text = await document.read()
        if (text !== undefined) return c.body(text, 200, { 'content-type': 'application/json' })
        const why = `There is no registry document in force: ${document.problem()}`
        throw new ApiError(404, 'ZOS_NO_DOCUMENT', why)
      },
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
        const text = await textOf(c)
        if (text === undefined) throw badDocument('Cannot take registry: it is not UTF-8')
        await document.replace(text).catch((cause: unknown) => {
          if (cause instanceof RegistryError) throw badDocument(cause.message, { cause })
          throw cause
        })
        return c.body(null, 204)
      },
    )
}

function notUtf8(): ZosError {
  return new ZosError('decode', 'invalid payload: it is not UTF-8')
}

function noNode(): ZosError {
  return new ZosError(
    'authentication',
    'nobody made a grid node of this daemon: its operator sets registry or chain_url in [plugins.zos], or PUTs a document to /zos-registry',
  )
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** The body as it came; undefined when it is no UTF-8, which `text()` would mend in silence. */
async function textOf(c: Context): Promise<string | undefined> {
  const bytes = await c.req.arrayBuffer()
  try {
    return utf8.decode(bytes)
  } catch {
    return undefined
  }
}

function badDocument(why: string, options?: ErrorOptions): ApiError {
  return new ApiError(400, 'ZOS_REGISTRY_INVALID', why, options)
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
