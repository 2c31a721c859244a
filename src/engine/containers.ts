import * as v from 'valibot'
import { type CallOptions, type EngineClient, filtersOf, segment } from './client.ts'
import type { LogLine } from './log-lines.ts'
import { type LogOptions, readLogs } from './logs.ts'
import { Count, Flag, listOf, recordOf, Text, Texts } from './shapes.ts'

const Mount = v.looseObject({
  /** `volume`, `bind`, `tmpfs`. */
  Type: Text,
  /** Of a volume. */
  Name: Text,
  Source: Text,
  Destination: Text,
})

/** What a list says about a container. */
const ContainerSummary = v.looseObject({
  Id: v.string(),
  /** Each with a slash in front. */
  Names: listOf(v.string()),
  /** As it was asked for: a name, or the id of an image. */
  Image: Text,
  ImageID: Text,
  /** `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`. */
  State: Text,
  Labels: Texts,
  /** Seconds since 1970. */
  Created: Count,
  Mounts: listOf(Mount),
})
export type ContainerSummary = v.InferOutput<typeof ContainerSummary>

const ContainerNetwork = v.looseObject({
  NetworkID: Text,
  IPAddress: Text,
  Aliases: listOf(v.string()),
})

/** What an inspection says about a container. */
const ContainerDetails = v.looseObject({
  Id: v.string(),
  /** Docker puts a slash in front, Podman does not. */
  Name: Text,
  /** RFC 3339. */
  Created: Text,
  /** The id of the image. */
  Image: Text,
  RestartCount: Count,
  State: v.looseObject({
    /** As in a list. */
    Status: Text,
    Running: Flag,
    Restarting: Flag,
    OOMKilled: Flag,
    ExitCode: Count,
    /** Why it could not be started. */
    Error: Text,
    /** RFC 3339; year 1 for a container that was never started. */
    StartedAt: Text,
    FinishedAt: Text,
    /** `starting`, `healthy`, `unhealthy`; absent, or Podman's empty text, without a check. */
    Health: v.nullish(v.looseObject({ Status: Text })),
  }),
  Config: v.looseObject({
    Image: Text,
    Tty: Flag,
    Hostname: Text,
    /** `NAME=value`. Holds secrets. */
    Env: listOf(v.string()),
    Labels: Texts,
  }),
  HostConfig: v.looseObject({
    NetworkMode: Text,
    RestartPolicy: v.nullish(v.looseObject({ Name: Text, MaximumRetryCount: Count })),
  }),
  Mounts: listOf(Mount),
  NetworkSettings: v.looseObject({ Networks: recordOf(ContainerNetwork) }),
})
export type ContainerDetails = v.InferOutput<typeof ContainerDetails>

const Created = v.looseObject({ Id: v.string(), Warnings: listOf(v.string()) })
export type CreatedContainer = v.InferOutput<typeof Created>

const Exit = v.looseObject({
  StatusCode: v.number(),
  Error: v.nullish(v.looseObject({ Message: Text })),
})

export interface ListContainersOptions extends CallOptions {
  /** Stopped ones too. Default: true. */
  readonly all?: boolean
  /** `name` or `name=value`; a container must have all of them. */
  readonly labels?: readonly string[]
  readonly names?: readonly string[]
}

export interface StopOptions extends CallOptions {
  /** Until the engine kills it. Default: what the container was created with. */
  readonly seconds?: number
}

export interface RemoveContainerOptions extends CallOptions {
  /** Kill it first. Default: false, which makes a running one an `ENGINE_CONFLICT`. */
  readonly force?: boolean
  /** Its anonymous volumes too. Default: false. */
  readonly volumes?: boolean
}

export interface WaitOptions extends CallOptions {
  /** Default: `not-running`, which is true at once for a container that does not run. */
  readonly until?: 'not-running' | 'next-exit' | 'removed'
}

/** How a container ended. */
export interface ContainerExit {
  readonly status: number
  /** What the engine could not do. */
  readonly error?: string
}

/**
 * Calls about containers. A container is named by id or name. All throw {@link EngineError}:
 * `ENGINE_NOT_FOUND` where there is no such container, and what each says.
 */
export interface Containers {
  list(options?: ListContainersOptions): Promise<readonly ContainerSummary[]>
  inspect(container: string, options?: CallOptions): Promise<ContainerDetails>
  /**
   * @param body The engine's own form, with `Image`, `HostConfig`, `NetworkingConfig`; only ever
   *   sent as a body, because it holds secrets. Errors show no value of `Env`.
   * @throws `ENGINE_CONFLICT` for a name in use; `ENGINE_NOT_FOUND` for an image that is not here.
   */
  create(name: string, body: ContainerBody, options?: CallOptions): Promise<CreatedContainer>
  /** @returns False when it was running. */
  start(container: string, options?: CallOptions): Promise<boolean>
  /**
   * Waits until it has stopped.
   *
   * @returns False when it was not running.
   */
  stop(container: string, options?: StopOptions): Promise<boolean>
  /** @throws `ENGINE_CONFLICT` when it does not run. */
  kill(container: string, signal?: string, options?: CallOptions): Promise<void>
  /**
   * Freezes its processes.
   *
   * @throws `ENGINE_CONFLICT` when it does not run, or is paused already.
   */
  pause(container: string, options?: CallOptions): Promise<void>
  /** @throws `ENGINE_CONFLICT` or `ENGINE_FAILED` when it is not paused. */
  unpause(container: string, options?: CallOptions): Promise<void>
  remove(container: string, options?: RemoveContainerOptions): Promise<void>
  rename(container: string, name: string, options?: CallOptions): Promise<void>
  /**
   * Changes restart policy or resource limits.
   *
   * @throws `ENGINE_UNSUPPORTED` on Podman 4 (spec balena-supervisor §23.4).
   */
  update(container: string, body: object, options?: CallOptions): Promise<void>
  /** Waits for its end; the deadline, by default ten minutes, is for the whole waiting. */
  wait(container: string, options?: WaitOptions): Promise<ContainerExit>
  /** What it wrote, line by line; with `follow` until it stops or the signal aborts. */
  logs(container: string, options?: LogOptions): AsyncGenerator<LogLine>
}

/** A container as it is asked for. The planner builds it; here only what errors need is known. */
export interface ContainerBody {
  readonly Image: string
  /** `NAME=value`. */
  readonly Env?: readonly string[]
  readonly [member: string]: unknown
}

/** Beyond the time that a container is given to stop. */
const STOP_MARGIN_MS = 30_000
/** Where the container's own time is not known. */
const STOP_SECONDS = 90
/** An engine takes long to remove many layers. */
const REMOVE_MS = 120_000
const CREATE_MS = 120_000
const WAIT_MS = 600_000

export function createContainers(client: EngineClient): Containers {
  const at = (container: string, action: string) => `/containers/${segment(container, action)}`

  return {
    list: ({ all = true, labels, names, ...options } = {}) =>
      client.json(
        {
          action: 'list containers',
          path: '/containers/json',
          query: { all: all || undefined, filters: filtersOf({ label: labels, name: names }) },
          ...options,
        },
        listOf(ContainerSummary),
      ),

    inspect: async (container, options) => {
      const action = `inspect container "${container}"`
      const path = `${at(container, action)}/json`
      return client.json({ action, path, ...options }, ContainerDetails)
    },

    create: async (name, body, options) => {
      const action = `create container "${name}"`
      segment(name, action)
      return client.json(
        {
          action,
          method: 'POST',
          path: '/containers/create',
          query: { name },
          body,
          secrets: secretsOf(body.Env ?? []),
          deadlineMs: CREATE_MS,
          ...options,
        },
        Created,
      )
    },

    start: async (container, options) => {
      const action = `start container "${container}"`
      const path = `${at(container, action)}/start`
      const deadlineMs = CREATE_MS
      const call = { action, method: 'POST', path, accept: 304, deadlineMs, ...options } as const
      return (await client.status(call)) !== 304
    },

    stop: async (container, { seconds, ...options } = {}) => {
      const action = `stop container "${container}"`
      const path = `${at(container, action)}/stop`
      const query = { t: seconds }
      const deadlineMs = (seconds ?? STOP_SECONDS) * 1000 + STOP_MARGIN_MS
      return (
        (await client.status(
          { action, method: 'POST', path, query, accept: 304, deadlineMs, ...options },
          'long',
        )) !== 304
      )
    },

    kill: async (container, signal, options) => {
      const action = `kill container "${container}"`
      const path = `${at(container, action)}/kill`
      await client.status({ action, method: 'POST', path, query: { signal }, ...options })
    },

    pause: async (container, options) => {
      const action = `pause container "${container}"`
      const path = `${at(container, action)}/pause`
      await client.status({ action, method: 'POST', path, ...options })
    },

    unpause: async (container, options) => {
      const action = `resume container "${container}"`
      const path = `${at(container, action)}/unpause`
      await client.status({ action, method: 'POST', path, ...options })
    },

    remove: async (container, { force, volumes, ...options } = {}) => {
      const action = `remove container "${container}"`
      const path = at(container, action)
      const query = { force: force || undefined, v: volumes || undefined }
      const deadlineMs = REMOVE_MS
      await client.status({ action, method: 'DELETE', path, query, deadlineMs, ...options })
    },

    rename: async (container, name, options) => {
      const action = `rename container "${container}" to "${name}"`
      const path = `${at(container, action)}/rename`
      segment(name, action)
      await client.status({ action, method: 'POST', path, query: { name }, ...options })
    },

    update: async (container, body, options) => {
      const action = `update container "${container}"`
      const path = `${at(container, action)}/update`
      await client.status({ action, method: 'POST', path, body, ...options })
    },

    wait: async (container, { until = 'not-running', ...options } = {}) => {
      const action = `wait for container "${container}"`
      const path = `${at(container, action)}/wait`
      const query = { condition: until }
      const { StatusCode, Error: failure } = await client.json(
        { action, method: 'POST', path, query, deadlineMs: WAIT_MS, ...options },
        Exit,
        'long',
      )
      return { status: StatusCode, ...(failure ? { error: failure.Message } : {}) }
    },

    logs: (container, options) =>
      readLogs(client, container, options, async (signal) => {
        const action = `inspect container "${container}"`
        const path = `${at(container, action)}/json`
        const { Config } = await client.json({ action, path, signal }, ContainerDetails)
        return Config.Tty
      }),
  }
}

/** Of `NAME=value`, both the whole and the value: an engine may quote either. */
function secretsOf(environment: readonly string[]): string[] {
  return environment.flatMap((entry) => {
    const value = entry.slice(entry.indexOf('=') + 1)
    return [entry, value]
  })
}
