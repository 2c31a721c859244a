import { closeSync, readFileSync, writeSync } from 'node:fs'
import { descriptors } from './device/descriptors.ts'
import { type Connection, Exchange } from './http/exchange.ts'
import { type NodeQuirks, serveNode } from './http/serve-node.ts'
import {
  closing,
  type Endpoint,
  type Handler,
  type HttpLimits,
  type HttpListener,
} from './http/types.ts'
import type { Peer } from './plugin.ts'

export type { Endpoint, Handler, HttpLimits, HttpListener, TlsPair } from './http/types.ts'

/** The three runtimes cvmd runs on. This file is the only one that may name their globals. */
export type Runtime = 'node' | 'bun' | 'deno'

export const runtime: Runtime = 'Bun' in globalThis ? 'bun' : 'Deno' in globalThis ? 'deno' : 'node'

/** `node v20.20.2`, for the version command and the log. */
export function runtimeVersion(): string {
  const { bun, deno, node } = process.versions as Record<string, string | undefined>
  return `${runtime} ${runtime === 'bun' ? bun : runtime === 'deno' ? deno : node}`
}

/**
 * A file that was put into the single file, found by how its name starts and ends: Bun writes a
 * digest in between.
 */
export function embeddedFile(start: string, end: string): Uint8Array | undefined {
  if (runtime !== 'bun') return undefined
  const files = Bun.embeddedFiles as readonly (Blob & { readonly name: string })[]
  const file = files.find(({ name }) => name.startsWith(start) && name.endsWith(end))
  return file && readFileSync(`/$bunfs/root/${file.name}`)
}

/** Flag of memfd_create(2). */
const MFD_CLOEXEC = 1

/**
 * Puts bytes into a file that is only in memory (memfd_create(2)) and gives its path to `use`.
 *
 * @throws {Error} Where the runtime or the system has no such files.
 */
export function withMemoryFile<T>(name: string, bytes: Uint8Array, use: (path: string) => T): T {
  if (runtime !== 'bun') throw new Error('only Bun can make files in memory')
  const { dlopen } = process.getBuiltinModule('bun:ffi') as typeof import('bun:ffi')
  const libc = dlopen('libc.so.6', { memfd_create: { args: ['cstring', 'u32'], returns: 'i32' } })
  const fd = libc.symbols.memfd_create(Buffer.from(`${name}\0`), MFD_CLOEXEC)
  libc.close()
  if (fd < 0) throw new Error('the system makes no files in memory')
  try {
    for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at)
    return use(`/proc/self/fd/${fd}`)
  } finally {
    closeSync(fd)
  }
}

/** How `node:http` differs on this runtime. */
export const NODE_QUIRKS: NodeQuirks = {
  // Bun.serve only takes Bun's own Response.
  fastGlobals: runtime !== 'bun',
  // Bun's node:http tells of a half-closed connection only once the answer is written, when nobody
  // can be stopped any more.
  halfOpen: runtime !== 'bun',
  // Deno's parser (2.9) goes on with the next request at once, and stops only in its listener.
  cutAtOnce: runtime === 'deno',
  // Sockets of Bun's node:http have no handle, those of its node:net have.
  hidesDescriptors: runtime === 'bun',
}

/** Longest idle time `Bun.serve` knows, in seconds. */
const BUN_MAX_IDLE_S = 255

/** Bun closes idle connections up to this much early, in seconds. */
const BUN_TICK_S = 4

/**
 * Serves HTTP/1.1 on one endpoint. On Bun, plain TCP goes through `Bun.serve`, which is twice as
 * fast there; everything else, and all of Node and Deno, through `node:http`, which has the
 * timeouts `Deno.serve` lacks (measured, see the README's runtime notes).
 *
 * @throws {Error} The system error when the endpoint cannot be bound.
 */
export function serveHttp(
  name: string,
  endpoint: Endpoint,
  limits: HttpLimits,
  handler: Handler,
): Promise<HttpListener> {
  const idleSeconds = Math.ceil(limits.idleTimeoutMs / 1000) + BUN_TICK_S
  if (runtime === 'bun' && 'host' in endpoint && !endpoint.tls && idleSeconds <= BUN_MAX_IDLE_S) {
    return serveBun(name, endpoint, limits, idleSeconds, handler)
  }
  return serveNode(name, endpoint, limits, handler, NODE_QUIRKS)
}

/**
 * What cannot be had from `Bun.serve`, as measured with 1.4: the time for a first request head is
 * 10 s whatever is asked for, there is no limit of connections, and a half-closed connection ends
 * at once, so that only an answer given without waiting reaches it.
 */
async function serveBun(
  name: string,
  endpoint: { readonly host: string; readonly port: number },
  limits: HttpLimits,
  idleSeconds: number,
  handler: Handler,
): Promise<HttpListener> {
  const http = await import('node:http')
  // Bun takes the head limit from here, process-wide; there is no option on Bun.serve.
  Object.assign(http.default, {
    maxHeaderSize: Math.max(http.default.maxHeaderSize, limits.maxHeadBytes),
  })
  const headSeconds = Math.ceil(limits.headTimeoutMs / 1000)
  const bind = (port: number) =>
    Bun.serve({
      hostname: endpoint.host,
      port,
      idleTimeout: idleSeconds,
      maxRequestBodySize: Number.MAX_SAFE_INTEGER,
      fetch: (request, bun) => {
        if (malformed(request)) return refuse()
        const connection = new BunConnection(request, bun, idleSeconds)
        const answer = handler(request, new Exchange(name, connection))
        return answer instanceof Promise
          ? answer.then((response) => connection.answered(response, headSeconds))
          : answer
      },
      error: () => new Response(null, { status: 500 }),
    })
  return new BunListener(bind, endpoint.port)
}

/** How often a Bun listener looks whether descriptors run out. */
const WATCH_MS = 500

/**
 * A server that stops listening while the process has no descriptor to spare, where Bun would try
 * to accept again and again (70 % of a core, measured); what is connected goes on.
 */
class BunListener implements HttpListener {
  readonly port: number
  readonly #bind: (port: number) => Bun.Server<unknown>
  readonly #watch: ReturnType<typeof setInterval>
  /** Undefined while it does not listen. */
  #server: Bun.Server<unknown> | undefined
  /** Servers that do not listen any more but still have connections. */
  readonly #leaving = new Map<Bun.Server<unknown>, Promise<void>>()

  constructor(bind: (port: number) => Bun.Server<unknown>, port: number) {
    this.#bind = bind
    this.#server = bind(port)
    this.port = this.#server.port ?? 0
    const files = descriptors()
    this.#watch = setInterval(() => this.#adjust(files.spare()), WATCH_MS)
    this.#watch.unref()
  }

  replaceTls(): void {}

  async close(deadlineMs: number): Promise<void> {
    clearInterval(this.#watch)
    this.#leave()
    const cut = setTimeout(() => {
      for (const server of this.#leaving.keys()) void server.stop(true)
    }, deadlineMs)
    await Promise.all(this.#leaving.values())
    clearTimeout(cut)
  }

  #adjust(spare: number): void {
    if (spare < 0) this.#leave()
    else if (!this.#server && spare > 0) {
      try {
        this.#server = this.#bind(this.port)
      } catch {
        // Somebody else took the port or the last descriptor: the next round tries again.
      }
    }
  }

  #leave(): void {
    const server = this.#server
    if (!server) return
    this.#server = undefined
    this.#leaving.set(
      server,
      server.stop(false).finally(() => this.#leaving.delete(server)),
    )
  }
}

/** A host and an optional port, RFC 3986: section 3.2.2; two of them are joined by a comma. */
const HOST = /^(\[[0-9a-f:.]+\]|[\w.~%!$&'()*+;=-]+)(:\d*)?$/i

/** What Bun's parser lets pass and Node's does not. */
function malformed({ headers, method }: Request): boolean {
  const host = headers.get('host')
  if (host === null || !HOST.test(host)) return true
  if (method === 'GET' || method === 'HEAD') return false
  const length = headers.get('content-length')
  return length !== null && !/^\d+$/.test(length)
}

function refuse(): Response {
  return new Response(null, { status: 400, headers: { connection: 'close' } })
}

class BunConnection implements Connection {
  readonly #request: Request
  readonly #server: Bun.Server<unknown>
  readonly #idleSeconds: number
  #held = false

  constructor(request: Request, server: Bun.Server<unknown>, idleSeconds: number) {
    this.#request = request
    this.#server = server
    this.#idleSeconds = idleSeconds
  }

  peer(): Peer {
    return this.#server.requestIP(this.#request) ?? { address: 'unknown', port: 0 }
  }

  hold(): void {
    this.#held = true
    this.#server.timeout(this.#request, 0)
  }

  /** Bun's idle timer does not see the bytes of a body, so each chunk winds it up. */
  streamed(request: Request): Request {
    const reader = request.body?.getReader()
    if (!reader) return request
    const body = new ReadableStream<Uint8Array>({
      pull: async (controller) => {
        const { done, value } = await reader.read()
        this.#server.timeout(this.#request, this.#idleSeconds)
        if (done) controller.close()
        else controller.enqueue(value)
      },
      cancel: (reason) => reader.cancel(reason),
    })
    return new Request(request, { body })
  }

  /** The lifted timer would stay lifted on the connection: wind it up, or end the connection. */
  answered(response: Response, headSeconds: number): Response {
    if (!this.#held) return response
    // A failed request may leave a body unread, whose sender must not be cut before the answer.
    if (response.status < 400) return closing(response)
    this.#server.timeout(this.#request, headSeconds)
    return response
  }

  header(name: string): string | undefined {
    return this.#request.headers.get(name) ?? undefined
  }
}
