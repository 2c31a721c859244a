import * as v from 'valibot'
import { type CallOptions, type EngineClient, filtersOf } from './client.ts'
import { EngineError, engineWords } from './error.ts'
import { readJsonLines } from './json-lines.ts'
import { isImageId, parseImageReference } from './reference.ts'
import { Count, listOf, recordOf, Text, Texts } from './shapes.ts'

/** What a list says about an image. */
const ImageSummary = v.looseObject({
  /** `sha256:` and 64 hex digits. */
  Id: v.string(),
  /** `name:tag`; Podman puts `localhost/` before a name without registry. */
  RepoTags: listOf(v.string()),
  /** `name@sha256:digest`. */
  RepoDigests: listOf(v.string()),
  Labels: Texts,
  /** Bytes. */
  Size: Count,
})
export type ImageSummary = v.InferOutput<typeof ImageSummary>

/** A command; an engine knows a single text too. */
const Words = v.nullish(v.union([v.array(v.string()), v.string()]))

/** What an inspection says about an image. */
const ImageDetails = v.looseObject({
  Id: v.string(),
  RepoTags: listOf(v.string()),
  RepoDigests: listOf(v.string()),
  Architecture: Text,
  Os: Text,
  Size: Count,
  Config: v.nullish(
    v.looseObject({
      Env: listOf(v.string()),
      Cmd: Words,
      Entrypoint: Words,
      Labels: Texts,
      ExposedPorts: recordOf(v.unknown()),
      Volumes: recordOf(v.unknown()),
      Healthcheck: v.nullish(v.looseObject({ Test: listOf(v.string()) })),
      StopSignal: Text,
      User: Text,
      WorkingDir: Text,
    }),
  ),
})
export type ImageDetails = v.InferOutput<typeof ImageDetails>

const PullLine = v.looseObject({
  status: Text,
  /** Of a layer: the first digits of its digest. */
  id: Text,
  progressDetail: v.nullish(v.looseObject({ current: Count, total: Count })),
  error: v.nullish(v.string()),
  errorDetail: v.nullish(v.looseObject({ message: Text })),
})

/** What an engine says while it pulls. */
export interface PullProgress {
  /** `Downloading`, `Extracting`, `Pull complete`, and sentences. */
  readonly status: string
  /** Of which layer, where it is one. */
  readonly layer: string
  /** Bytes of that layer; 0 where unknown. */
  readonly current: number
  readonly total: number
}

/** Who pulls. Sent in a header, never in an address. */
export interface RegistryCredentials {
  readonly username: string
  readonly password: string
  /** The registry they are for. Default: that of the image. */
  readonly serverAddress?: string
}

export interface PullOptions extends CallOptions {
  readonly credentials?: RegistryCredentials
  readonly onProgress?: (progress: PullProgress) => void
  /** Longest silence of the engine. Default: 5 minutes. */
  readonly idleMs?: number
  /** `linux/arm64`. Default: the engine's own. */
  readonly platform?: string
}

export interface ListImagesOptions extends CallOptions {
  readonly labels?: readonly string[]
  /** Names, with `*` for any text. */
  readonly references?: readonly string[]
}

export interface RemoveImageOptions extends CallOptions {
  /** Although it has other names, or a stopped container uses it. Default: false. */
  readonly force?: boolean
  /** Keep the layers it was made of. Default: false. */
  readonly keepParents?: boolean
}

/**
 * Calls about images. An image is named by id (`sha256:…`) or by
 * `[registry/]repository[:tag][@sha256:…]`. All throw {@link EngineError}; `ENGINE_REJECTED` for a
 * text that is neither, and `ENGINE_NOT_FOUND`.
 */
export interface Images {
  list(options?: ListImagesOptions): Promise<readonly ImageSummary[]>
  inspect(image: string, options?: CallOptions): Promise<ImageDetails>
  /**
   * Pulls an image and returns when it is here. The deadline is for the registry's first answer;
   * from then on the engine must not fall silent.
   *
   * @throws `ENGINE_NOT_FOUND` when the registry has none or gives none to these credentials;
   *   `ENGINE_FAILED` for all other failures, also those an engine tells after status 200.
   */
  pull(image: string, options?: PullOptions): Promise<void>
  /** @throws `ENGINE_CONFLICT` when a container uses it, or it has other names. */
  remove(image: string, options?: RemoveImageOptions): Promise<void>
  /** Gives it one more name. */
  tag(image: string, name: string, options?: CallOptions): Promise<void>
}

/** Docker begins to answer when the registry has. */
const PULL_BEGIN_MS = 120_000
const PULL_IDLE_MS = 300_000
const REMOVE_MS = 120_000

export function createImages(client: EngineClient): Images {
  return {
    list: ({ labels, references, ...options } = {}) =>
      client.json(
        {
          action: 'list images',
          path: '/images/json',
          query: { filters: filtersOf({ label: labels, reference: references }) },
          ...options,
        },
        listOf(ImageSummary),
      ),

    inspect: async (image, options) => {
      const action = `inspect image "${image}"`
      const path = `/images/${checkedName(image, action)}/json`
      return client.json({ action, path, ...options }, ImageDetails)
    },

    pull: async (image, options = {}) => {
      const action = `pull image "${image}"`
      const reference = parseImageReference(image)
      if (!reference) throw noName(action)
      const { credentials, onProgress, idleMs = PULL_IDLE_MS, platform } = options
      // Without a tag Docker would pull every one there is.
      const query = {
        fromImage: reference.name,
        tag: reference.digest ?? reference.tag,
        platform,
      }
      const answer = await client.stream({
        action,
        method: 'POST',
        path: '/images/create',
        query,
        headers: authorization(credentials, reference.registry),
        secrets: credentials ? [credentials.password] : [],
        signal: options.signal,
        deadlineMs: options.deadlineMs ?? PULL_BEGIN_MS,
      })
      for await (const line of readJsonLines(answer, PullLine, action, idleMs)) {
        const failure = line.error ?? line.errorDetail?.message
        if (failure !== undefined) throw failed(action, failure, credentials)
        onProgress?.({
          status: line.status,
          layer: line.id,
          current: line.progressDetail?.current ?? 0,
          total: line.progressDetail?.total ?? 0,
        })
      }
    },

    remove: async (image, { force, keepParents, ...options } = {}) => {
      const action = `remove image "${image}"`
      const path = `/images/${checkedName(image, action)}`
      const query = { force: force || undefined, noprune: keepParents || undefined }
      const deadlineMs = REMOVE_MS
      await client.status({ action, method: 'DELETE', path, query, deadlineMs, ...options })
    },

    tag: async (image, name, options) => {
      const action = `tag image "${image}" as "${name}"`
      const reference = parseImageReference(name)
      if (reference?.tag === undefined || reference.digest !== undefined) throw noName(action)
      const path = `/images/${checkedName(image, action)}/tag`
      const query = { repo: reference.name, tag: reference.tag }
      await client.status({ action, method: 'POST', path, query, ...options })
    },
  }
}

/** Its characters are all allowed in a path, and no part of it is `.` or `..`. */
function checkedName(image: string, action: string): string {
  if (!isImageId(image) && !parseImageReference(image)) throw noName(action)
  return image
}

function noName(action: string): EngineError {
  const reason = 'the name of an image is [registry/]repository[:tag][@sha256:digest]'
  return new EngineError('ENGINE_REJECTED', action.slice(0, 300), reason)
}

function failed(
  action: string,
  words: string,
  credentials: RegistryCredentials | undefined,
): EngineError {
  const detail = engineWords(words, credentials ? [credentials.password] : [])
  // Podman says 200 first, and everything else here.
  const missing = /manifest unknown|not found|access.*denied|unauthorized/i.test(detail)
  const code = missing ? 'ENGINE_NOT_FOUND' : 'ENGINE_FAILED'
  return new EngineError(code, action, detail === '' ? 'the engine failed' : detail, { detail })
}

/** base64url with padding: Docker 20.10 takes a header without it for no header. */
function authorization(
  credentials: RegistryCredentials | undefined,
  registry: string,
): Record<string, string> {
  if (!credentials) return {}
  const { username, password, serverAddress = registry } = credentials
  const json = JSON.stringify({ username, password, serveraddress: serverAddress })
  const base64 = Buffer.from(json).toString('base64')
  return { 'x-registry-auth': base64.replaceAll('+', '-').replaceAll('/', '_') }
}
