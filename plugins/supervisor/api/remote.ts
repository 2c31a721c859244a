import { type Context, Hono } from 'hono'
import { TrieRouter } from 'hono/router/trie-router'
import type { z } from 'zod'
import { ApiError } from '../../../src/errors.ts'
import type { PluginEnv } from '../../../src/plugin.ts'
import { route } from '../../../src/route.ts'
import { looseJson } from '../../../src/validate.ts'
import { GLOBAL } from '../keys/supervisor-keys.ts'
import { json } from './answers.ts'
import { deviceRoutes } from './device-routes.ts'
import { asApiError, renderError } from './errors.ts'
import type { ApiParts } from './parts.ts'
import { askPeer, type Peer } from './peers.ts'
import { RemoteBody } from './schemas.ts'

/** Of an answer that is one of several. */
const MAX_PART_BYTES = 1024 * 1024

const PREFIX = '/supervisor'

/** What the remote form needs beside the API itself. */
export interface RemoteOptions {
  readonly parts: ApiParts
  readonly peers: readonly Peer[]
  /** Milliseconds until a peer has to begin its answer, and to end one of several. */
  readonly timeoutMs: number
}

interface RemoteRequest {
  /** With its query: `/v1/device`. */
  readonly target: string
  readonly method: 'GET' | 'POST' | 'PATCH'
  /** JSON. */
  readonly body: string | undefined
}

/**
 * The remote form of the API, for operators: `POST /supervisor/v1/restart` with the device in the
 * body does what the same call would do there. The answer is the device's own; for an `appId` alone
 * it is a list of `{uuid, status, body}`, one of each device that has the app.
 */
export function remoteRoutes({ parts, peers, timeoutMs }: RemoteOptions) {
  // A second set of the same routes: what comes in here has been let in by the listener.
  const local = deviceRoutes(parts)
  local.onError((error, c) => renderError(asApiError(error), c))
  const methods = new TrieRouter<string>()
  for (const { method, path } of local.routes) methods.add(method, path, method)

  const askHere = (c: Context<PluginEnv>, { target, method, body }: RemoteRequest) => {
    const headers = new Headers({ authorization: `Bearer ${parts.keys.keyOf(GLOBAL)}` })
    if (body !== undefined) headers.set('content-type', 'application/json')
    const request = new Request(`http://localhost${target}`, {
      method,
      headers,
      ...(body === undefined ? {} : { body }),
    })
    return local.fetch(request, c.env)
  }

  return new Hono<PluginEnv>().post(
    `${PREFIX}/*`,
    route({
      summary: 'Call the API of this device or of a peer',
      listener: 'operator',
      long: true,
      scope: 'supervisor:remote',
      answers: {
        200: { description: "The device's answer; for an appId one per device" },
        404: { description: 'No such device, or no such path' },
        502: { description: 'The peer cannot be reached' },
      },
    }),
    looseJson(RemoteBody),
    async (c) => {
      const wanted = c.req.valid('json')
      const request = requestOf(c, wanted, methods)
      const { device } = parts
      const found = peers.filter((peer) => names(wanted, peer))
      const here = names(wanted, {
        uuid: device.uuid,
        deviceId: device.id,
        appIds: parts.supervisor.apps().map(({ appId }) => appId),
      })
      if (!here && found.length === 0) throw unknownDevice(wanted)
      if (wanted.uuid !== undefined || wanted.deviceId !== undefined) {
        const [peer] = found
        if (here || !peer) return askHere(c, request)
        return askPeer(peer, request, timeoutMs, c.req.raw.signal)
      }
      const asked = [
        ...(here ? [part(device.uuid, timeoutMs, async () => askHere(c, request))] : []),
        ...found.map((peer) =>
          part(peer.uuid, timeoutMs, (signal) => askPeer(peer, request, timeoutMs, signal)),
        ),
      ]
      return json(await Promise.all(asked))
    },
  )
}

type Wanted = z.output<typeof RemoteBody>

/** @throws {ApiError} 400 for a path that is none of the API. */
function requestOf(
  c: Context<PluginEnv>,
  { method: given, data }: Wanted,
  methods: TrieRouter<string>,
): RemoteRequest {
  const path = c.req.path.slice(PREFIX.length)
  const at = (method: string) => methods.match(method, path)[0].length > 0
  const method = given ?? (at('POST') ? 'POST' : at('PATCH') && data ? 'PATCH' : 'GET')
  if (!at(method)) {
    const shown = path.slice(0, 128)
    throw new ApiError(404, 'REMOTE_PATH_UNKNOWN', `Cannot ${method} "${shown}" on a device`)
  }
  const query = new URL(c.req.url).searchParams
  // Keys are ours to add; one in an address would show in logs.
  query.delete('apikey')
  const search = query.size > 0 ? `?${query}` : ''
  const body = method === 'GET' ? undefined : JSON.stringify(data ?? {})
  return { target: `${path}${search}`, method, body }
}

/** @throws {ApiError} 400 when a request names no device or more than one way. */
function names(
  { uuid, deviceId, appId }: Wanted,
  device: { uuid: string; deviceId: number | undefined; appIds: readonly number[] },
): boolean {
  const given = [uuid, deviceId, appId].filter((one) => one !== undefined)
  if (given.length === 0) {
    throw new ApiError(400, 'REMOTE_DEVICE_MISSING', 'Give "uuid", "deviceId" or "appId"')
  }
  return (
    (uuid === undefined || uuid === device.uuid) &&
    (deviceId === undefined || deviceId === device.deviceId) &&
    (appId === undefined || device.appIds.includes(appId))
  )
}

function unknownDevice({ uuid, deviceId, appId }: Wanted): ApiError {
  const shown = JSON.stringify({ uuid: uuid?.slice(0, 64), deviceId, appId })
  const message = `Cannot find a device for ${shown}: name it in [plugins.supervisor.peers]`
  return new ApiError(404, 'REMOTE_DEVICE_UNKNOWN', message)
}

/** One device's answer among several. A failure is an answer too. */
async function part(
  uuid: string,
  timeoutMs: number,
  ask: (signal: AbortSignal) => Promise<Response>,
) {
  const late = new AbortController()
  const timer = setTimeout(() => late.abort(), timeoutMs)
  try {
    const answer = await ask(late.signal)
    const text = await readText(answer, late.signal)
    const isJson = answer.headers.get('content-type')?.includes('json') ?? false
    return { uuid, status: answer.status, body: isJson ? parsed(text) : text }
  } catch (error) {
    const { status = 502, code = 'REMOTE_FAILED', message } = error as Partial<ApiError> & Error
    return { uuid, status, body: { status: 'failed', message, code } }
  } finally {
    clearTimeout(timer)
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

/** @throws {ApiError} 502 for more than {@link MAX_PART_BYTES}, 504 for an answer without end. */
async function readText(answer: Response, late: AbortSignal): Promise<string> {
  const reader = answer.body?.getReader()
  const cut = () => void reader?.cancel().catch(() => undefined)
  late.addEventListener('abort', cut)
  const decoder = new TextDecoder()
  let text = ''
  let size = 0
  for (;;) {
    const { done, value } = (await reader?.read()) ?? { done: true, value: undefined }
    if (late.aborted) {
      throw new ApiError(504, 'REMOTE_TIMEOUT', 'Cannot pass the answer on: it did not end in time')
    }
    if (done || value === undefined) return text + decoder.decode()
    size += value.byteLength
    if (size > MAX_PART_BYTES) {
      cut()
      const message = `Cannot pass the answer on: it has more than ${MAX_PART_BYTES} bytes`
      throw new ApiError(502, 'REMOTE_ANSWER_TOO_LARGE', message)
    }
    text += decoder.decode(value, { stream: true })
  }
}
