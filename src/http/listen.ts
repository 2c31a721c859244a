import { chmodSync, chownSync, lstatSync, readFileSync, rmSync, statSync } from 'node:fs'
import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import { parseAddress, type TcpAddress } from '../config/address.ts'
import type { ListenerConfig } from '../config/resolve.ts'
import { loadNative } from '../device/native.ts'
import { errnoOf, messageOf } from '../errors.ts'
import { makeFolder } from '../files/make-folder.ts'
import {
  type Handler,
  type HttpLimits,
  type HttpListener,
  serveHttp,
  type TlsPair,
} from '../runtime.ts'
import { type LateReport, openLate } from './late.ts'
import type { PeerReader } from './unix-peers.ts'

/** Exit statuses of sysexits.h that an init system can tell apart. */
export const EXIT = { config: 78, alreadyRunning: 75, failed: 1 } as const

/** A listener cannot be opened; the process ends with {@link ListenError.exitCode}. */
export class ListenError extends Error {
  override readonly name = 'ListenError'
  readonly exitCode: number

  constructor(message: string, exitCode: number, options?: ErrorOptions) {
    super(message, options)
    this.exitCode = exitCode
  }
}

/** An open listener whose handler and certificate can be exchanged while it runs. */
export interface Listener {
  readonly name: string
  readonly config: ListenerConfig
  /** The TCP port in use, 0 on a Unix socket. */
  readonly port: number
  /** What answers requests from now on. */
  handle: Handler
  replaceTls(pair: TlsPair): void
  close(deadlineMs: number): Promise<void>
}

/**
 * Opens one listener.
 *
 * @param late Told about an address that is waited for.
 * @throws {ListenError} Naming the address and what is in the way.
 */
export async function openListener(
  config: ListenerConfig,
  tls: TlsPair | undefined,
  handler: Handler,
  late: LateReport = SILENT,
): Promise<Listener> {
  const limits: HttpLimits = {
    maxHeadBytes: config.max_head_bytes,
    headTimeoutMs: config.head_timeout_ms,
    // A request that waits for its handler is not idle: its own deadline comes first.
    idleTimeoutMs: Math.max(config.idle_timeout_ms, config.request_timeout_ms + 1000),
    maxConnections: config.max_connections,
    maxConnectionsPerPeer: config.max_connections_per_peer,
  }
  const state = { handle: handler }
  const answer: Handler = (request, exchange) => state.handle(request, exchange)
  const pair = tls ? { tls } : {}
  const bindTcp = () => openTcp(config, { ...tcp(config), ...pair }, limits, answer)
  const http =
    config.unix !== undefined
      ? await openUnix(config, config.unix, { ...pair, peers: peerReader(config) }, limits, answer)
      : await (config.late ? openLate(bindTcp, late) : bindTcp())
  return {
    name: config.name,
    config,
    get port() {
      return http.port
    },
    get handle() {
      return state.handle
    },
    set handle(next: Handler) {
      state.handle = next
    },
    replaceTls: (next) => http.replaceTls(next),
    close: (deadlineMs) => http.close(deadlineMs),
  }
}

/** @throws {ListenError} Where nobody could be told from anybody. */
function peerReader({ name, auth }: ListenerConfig): PeerReader | undefined {
  if (!auth.includes('peer')) return undefined
  const native = loadNative()
  if ('readPeer' in native) return native.readPeer
  const why = `"peer" needs the native addon: ${native.reason}; ${native.remedy}`
  throw new ListenError(`Cannot listen on ${name}: ${why}`, EXIT.config)
}

const SILENT: LateReport = {
  waiting: () => undefined,
  opened: () => undefined,
  failed: () => undefined,
}

function tcp(config: ListenerConfig): TcpAddress {
  return parseAddress(config.address ?? '') as TcpAddress
}

async function openTcp(
  config: ListenerConfig,
  endpoint: { readonly host: string; readonly port: number; readonly tls?: TlsPair },
  limits: HttpLimits,
  answer: Handler,
): Promise<HttpListener> {
  try {
    return await serveHttp(config.name, endpoint, limits, answer)
  } catch (cause) {
    const why = errnoOf(cause) === 'EADDRINUSE' ? 'the port is in use' : messageOf(cause)
    throw new ListenError(`Cannot listen on ${config.name}: ${why}`, EXIT.failed, { cause })
  }
}

async function openUnix(
  config: ListenerConfig,
  path: string,
  options: { readonly tls?: TlsPair; readonly peers?: PeerReader | undefined },
  limits: HttpLimits,
  answer: Handler,
): Promise<HttpListener> {
  const fail = (why: string, code: number = EXIT.failed, cause?: unknown): never => {
    throw new ListenError(`Cannot listen on ${config.name}: ${why}`, code, { cause })
  }
  const folder = dirname(path)
  try {
    makeFolder(folder, 0o755)
    const { mode } = statSync(folder)
    // In a folder others may write without the sticky bit, they could put their socket in place.
    if ((mode & 0o022) !== 0 && (mode & 0o1000) === 0) {
      fail(`others may write in ${folder}: chmod go-w ${folder}`)
    }
    await removeStale(path, fail)
  } catch (error) {
    if (error instanceof ListenError) throw error
    fail(messageOf(error), EXIT.failed, error)
  }
  const gid = config.group === undefined ? undefined : groupId(config.group)
  if (Number.isNaN(gid)) fail(`there is no group "${config.group}"`)
  try {
    const server = await underNarrowUmask(() =>
      serveHttp(config.name, { unix: path, ...options }, limits, answer),
    )
    if (gid !== undefined) chownSync(path, -1, gid)
    chmodSync(path, config.mode)
    return server
  } catch (error) {
    return fail(messageOf(error), EXIT.failed, error)
  }
}

/**
 * Binds with a umask that leaves the socket to its owner, so that it is never open to more, not
 * even before chmod. Binding happens within the call, so the umask does not leak into other work.
 */
function underNarrowUmask(bind: () => Promise<HttpListener>): Promise<HttpListener> {
  let before: number
  try {
    before = process.umask(0o177)
  } catch {
    // Deno grants the umask only with all of --allow-sys; there chmod follows right after.
    return bind()
  }
  try {
    return bind()
  } finally {
    process.umask(before)
  }
}

/** Removes a socket nobody answers on; a live one, or anything that is no socket, stays. */
async function removeStale(
  path: string,
  fail: (why: string, code?: number) => never,
): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) return
  if (!found.isSocket()) fail('a file that is no socket is in the way')
  if (await answers(path)) fail('another cvmd is running there', EXIT.alreadyRunning)
  rmSync(path, { force: true })
}

/** Whether a listener answers a request within five seconds; with what status does not matter. */
export function answersHttp({ config, port }: Listener): Promise<boolean> {
  const host = config.unix === undefined ? tcp(config).host : undefined
  const secure = config.tls !== undefined
  return new Promise((resolve) => {
    const request = (secure ? httpsRequest : httpRequest)({
      ...(host === undefined ? { socketPath: config.unix } : { host, port }),
      path: '/livez',
      headers: { host: 'localhost' },
      // Only a sign of life is wanted here, no identity.
      rejectUnauthorized: false,
      agent: false,
      timeout: 5000,
    })
    const settle = (alive: boolean) => {
      request.destroy()
      resolve(alive)
    }
    request.once('response', () => settle(true))
    request.once('timeout', () => settle(false))
    request.once('error', () => settle(false))
    request.end()
  })
}

/** Whether somebody accepts connections on a Unix socket. */
export function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    const settle = (alive: boolean) => {
      socket.destroy()
      resolve(alive)
    }
    socket.once('connect', () => settle(true))
    // An owner that hangs up at once may show as a reset; only these two mean that nobody is there.
    socket.once('error', (error) => {
      settle(!['ECONNREFUSED', 'ENOENT'].includes(errnoOf(error) ?? ''))
    })
    socket.once('close', () => settle(true))
    socket.setTimeout(1000, () => settle(true))
  })
}

function groupId(name: string): number {
  if (/^\d+$/.test(name)) return Number(name)
  const line = readFileSync('/etc/group', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith(`${name}:`))
  return line === undefined ? Number.NaN : Number(line.split(':')[2])
}
