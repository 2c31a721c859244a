import type { Context, Hono } from 'hono'
import { ApiError, toApiError } from '../../../src/errors.ts'
import type { EventSink } from '../../../src/events/sink.ts'
import type { PluginEnv } from '../../../src/plugin.ts'
import { route } from '../../../src/route.ts'
import { looseJson } from '../../../src/validate.ts'
import type { Roots } from '../server/root-set.ts'
import {
  RotateAnswer,
  RotateBody,
  StatusAnswer,
  SyncAnswer,
  SyncBody,
  UseAnswer,
  UseBody,
} from './messages.ts'
import { adminProblem } from './problems.ts'
import type { KmsStatus } from './status.ts'

/** What an operator can ask of a KMS, and have it do. */
export interface AdminParts {
  status(): KmsStatus
  /**
   * Makes root keys of the next version, and uses them unless they are only prepared.
   *
   * @returns The version.
   * @throws {RootStoreError}
   */
  rotate(prepare: boolean): Promise<number>
  /** @throws {RootStoreError} `ROOT_VERSION_UNKNOWN`. */
  use(version: number): Promise<void>
  /**
   * Adds the versions that another KMS of the cluster has.
   *
   * @returns Those that were added.
   * @throws {RootStoreError} `ROOT_VERSION_DIFFERS`.
   * @throws {ApiError} When the other gives nothing.
   */
  sync(sourceUrl: string, signal: AbortSignal): Promise<readonly number[]>
  /** Told who changed what. */
  readonly events: EventSink
}

const ROTATING = { scope: 'kms:rotate', long: true } as const

const PROBLEMS = {
  404: { description: 'There is no such version' },
  409: { description: 'Not now, or not with these keys' },
  502: { description: 'The other KMS gives nothing' },
} as const

/** Adds the routes for operators below `/cvmd/kms`. */
export function adminRoutes(app: Hono<PluginEnv>, parts: AdminParts) {
  /** What is being changed; undefined: nothing. */
  let changing: string | undefined

  /**
   * Changes something, alone: of two who rotate at one time, one did not know of the other.
   *
   * @param what For errors and events: `rotate root keys`.
   * @param change Gives what is told of it once it is done.
   */
  async function changed<T>(
    c: Context<PluginEnv>,
    what: string,
    change: () => Promise<readonly [told: string, T]>,
  ): Promise<T & { current: number; versions: number[] }> {
    rootsFor(what, parts.status())
    if (changing !== undefined) {
      throw new ApiError(409, 'KMS_BUSY', `Cannot ${what}: somebody else wants to ${changing}`, {
        headers: { 'retry-after': '5' },
      })
    }
    const by = `by ${c.env.caller.name}`
    changing = what
    try {
      const [told, answer] = await change()
      parts.events.append(`${told}, ${by}`)
      const { current, versions } = rootsFor(what, parts.status())
      return { ...answer, current: current.root.version, versions: [...versions] }
    } catch (thrown) {
      const problem = adminProblem(thrown)
      // Part of it may have been done.
      const why = `cannot ${what}: ${toApiError(problem).code}`
      parts.events.append(`${why}, ${by}`, { level: 'error' })
      throw problem
    } finally {
      changing = undefined
    }
  }

  return app
    .get(
      '/cvmd/kms',
      route({
        summary: 'What the KMS is doing, and its root keys',
        scope: 'kms:read',
        answers: { 200: { description: 'Public parts alone', schema: StatusAnswer } },
      }),
      async (c) => {
        // With it come the curves, which other daemons start without.
        const { statusAnswer } = await import('./status.ts')
        return c.json(statusAnswer(parts.status()))
      },
    )
    .post(
      '/cvmd/kms/rotate',
      route({
        ...ROTATING,
        summary: 'Make root keys of the next version, and use them',
        answers: { 200: { description: 'Made', schema: RotateAnswer }, 409: PROBLEMS[409] },
      }),
      looseJson(RotateBody),
      async (c) => {
        const { prepare } = c.req.valid('json')
        const answer = await changed(c, 'rotate root keys', async () => {
          const version = await parts.rotate(prepare)
          const told = `made root keys of version ${version}, ${prepare ? 'not used yet' : 'used from now on'}`
          return [told, { version }]
        })
        return c.json(answer)
      },
    )
    .post(
      '/cvmd/kms/use',
      route({
        ...ROTATING,
        summary: 'Use another version of root keys',
        answers: {
          200: { description: 'In use', schema: UseAnswer },
          404: PROBLEMS[404],
          409: PROBLEMS[409],
        },
      }),
      looseJson(UseBody),
      async (c) => {
        const { version } = c.req.valid('json')
        const answer = await changed(c, `use root version ${version}`, async () => {
          await parts.use(version)
          return [`root keys of version ${version} are used from now on`, {}]
        })
        return c.json(answer)
      },
    )
    .post(
      '/cvmd/kms/sync',
      route({
        ...ROTATING,
        summary: 'Add the versions that another KMS of the cluster has',
        answers: {
          200: { description: 'Those that were missing', schema: SyncAnswer },
          409: PROBLEMS[409],
          502: PROBLEMS[502],
        },
      }),
      looseJson(SyncBody),
      async (c) => {
        const { source_url } = c.req.valid('json')
        const answer = await changed(c, 'take root keys from another KMS', async () => {
          const added = await parts.sync(source_url, c.req.raw.signal)
          const what =
            added.length === 0 ? 'no new root keys' : `root keys of version ${added.join(', ')}`
          return [`took ${what} from ${hostOf(source_url)}`, { added: [...added] }]
        })
        return c.json(answer)
      },
    )
}

/** @throws {ApiError} 409 `KMS_NOT_SET_UP`. */
function rootsFor(what: string, { roots, mode }: KmsStatus): Roots {
  if (roots) return roots
  throw new ApiError(
    409,
    'KMS_NOT_SET_UP',
    `Cannot ${what}: the KMS has no root keys yet (mode ${mode}); set it up first`,
  )
}

/** All of a URL that may be told: the rest can hold what is secret. */
function hostOf(url: string): string {
  return URL.canParse(url) ? new URL(url).host : 'another KMS'
}
