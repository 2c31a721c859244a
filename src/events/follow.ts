import { readSse } from './sse.ts'
import type { EventGap, EventPage, WireEvent } from './wire.ts'

export { formatEvent } from './format.ts'

/** Sends a request to a daemon: `fetch` with the address already in it. */
export type SendRequest = (path: string, init: RequestInit) => Promise<Response>

export interface FollowOptions {
  /** The last sequence number seen; default: from the oldest event kept. */
  readonly after?: number
  readonly source?: string
  /** Lowest level wanted. */
  readonly level?: string
  readonly contains?: string
  /** Go on with events as they come; default: end after those there are. */
  readonly follow?: boolean
  readonly signal?: AbortSignal
  /** First pause before connecting again, doubled up to 16 times; default 500. */
  readonly retryMs?: number
  /** Silence after which a stream counts as dead; default 60000. */
  readonly silenceMs?: number
}

/** What a reader of the log gets. */
export type Followed =
  | { readonly type: 'event'; readonly event: WireEvent }
  | { readonly type: 'gap'; readonly gap: EventGap }
  /** The daemon began a new log; events are numbered from there. */
  | { readonly type: 'reset' }

/** An answer of the daemon that ends the reading. */
export class FollowError extends Error {
  override readonly name = 'FollowError'
  readonly status: number

  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

/**
 * Reads a daemon's event log over its HTTP API: all pages there are and then, with `follow`, the
 * stream, connecting again where it broke off. No event comes twice; missing ones show as a gap.
 *
 * @throws {FollowError} When the daemon refuses (4xx but 408 and 429), or fails without `follow`.
 * @throws {Error} What `send` throws, without `follow`.
 */
export async function* followEvents(
  send: SendRequest,
  options: FollowOptions = {},
): AsyncGenerator<Followed> {
  const cursor = { after: options.after }
  yield* readPages(send, options, cursor)
  let attempt = 0
  while (options.follow && !options.signal?.aborted) {
    let pause = 0
    try {
      for await (const item of readStream(send, options, cursor)) {
        attempt = 0
        if (item) yield item
      }
    } catch (error) {
      if (options.signal?.aborted) return
      if (error instanceof FollowError && !transient(error.status)) throw error
      pause = (error as { retryAfterMs?: number }).retryAfterMs ?? 0
    }
    const backoff = (options.retryMs ?? 500) * 2 ** Math.min(attempt++, 4)
    await sleep(Math.max(pause, backoff), options.signal)
  }
}

interface Cursor {
  after: number | undefined
}

async function* readPages(
  send: SendRequest,
  options: FollowOptions,
  cursor: Cursor,
): AsyncGenerator<Followed> {
  for (;;) {
    const path = `/cvmd/events?${query(options, cursor.after)}`
    const page = (await (await request(send, path, {}, options.signal)).json()) as EventPage
    if (page.reset) yield { type: 'reset' }
    if (page.gap) yield { type: 'gap', gap: page.gap }
    for (const event of page.events) {
      cursor.after = event.seq
      yield { type: 'event', event }
    }
    const moved = page.next !== cursor.after
    cursor.after = page.next
    if (page.events.length === 0 && !moved) return
  }
}

/** Yields undefined for a sign of life. */
async function* readStream(
  send: SendRequest,
  options: FollowOptions,
  cursor: Cursor,
): AsyncGenerator<Followed | undefined> {
  const { silenceMs = 60_000 } = options
  const quiet = new AbortController()
  const watch = () => setTimeout(() => quiet.abort(new Error('the stream fell silent')), silenceMs)
  let timer = watch()
  const end = () => quiet.abort()
  options.signal?.addEventListener('abort', end)
  const state = { id: String(cursor.after ?? '') }
  try {
    const headers: Record<string, string> = state.id === '' ? {} : { 'last-event-id': state.id }
    const path = `/cvmd/events/stream?${query(options, undefined)}`
    const response = await request(send, path, headers, quiet.signal)
    if (!response.body) return
    for await (const record of readSse(response.body, state)) {
      clearTimeout(timer)
      timer = watch()
      if (state.id !== '') cursor.after = Number(state.id)
      yield record && toFollowed(record.event, record.data)
    }
  } finally {
    clearTimeout(timer)
    options.signal?.removeEventListener('abort', end)
    quiet.abort()
  }
}

function toFollowed(type: string, data: string): Followed | undefined {
  if (type === 'event') return { type, event: JSON.parse(data) as WireEvent }
  if (type === 'gap') return { type, gap: JSON.parse(data) as EventGap }
  return type === 'reset' ? { type } : undefined
}

async function request(
  send: SendRequest,
  path: string,
  headers: Record<string, string>,
  signal: AbortSignal | undefined,
): Promise<Response> {
  const response = await send(path, signal ? { headers, signal } : { headers })
  if (response.ok) return response
  const body = await response.text()
  const error = new FollowError(
    response.status,
    `Cannot read events: the daemon answered ${response.status}${detailOf(body)}`,
  )
  const seconds = Number(response.headers.get('retry-after'))
  throw Object.assign(error, { retryAfterMs: Math.min(seconds || 0, 60) * 1000 })
}

/** The sentence of a problem document, or of another dialect's error. */
function detailOf(body: string): string {
  try {
    const { detail, message } = JSON.parse(body) as { detail?: unknown; message?: unknown }
    const text = detail ?? message
    return typeof text === 'string' ? `: ${text}` : ''
  } catch {
    return ''
  }
}

function transient(status: number): boolean {
  return status >= 500 || status === 408 || status === 429
}

function query(options: FollowOptions, after: number | undefined): string {
  const { source, level, contains } = options
  const search = new URLSearchParams()
  for (const [key, value] of Object.entries({ source, level, contains, after })) {
    if (value !== undefined) search.set(key, String(value))
  }
  return search.toString()
}

function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  if (signal?.aborted) return Promise.resolve()
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal?.addEventListener('abort', done)
  })
}
