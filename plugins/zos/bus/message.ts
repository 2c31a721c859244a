import type { Answer } from '../rmb/answer.ts'

/** Where replies go: the only queue a peer reads them from (spec §10.1). */
export const REPLY_QUEUE = 'msgbus.system.reply'

/** The one schema there is; a message that names another is dropped unanswered (§1.1). */
export const SCHEMA = 'application/json'

const MAX_TTL_S = 1800
const DEFAULT_TTL_S = 300
const MAX_TEXT = 512

/** What a reply copies from its request. */
export interface RequestHead {
  readonly version: number
  readonly reference: string | null
  /** `<twin>[:<session>]`. */
  readonly source: string
  readonly schema: string | null | undefined
}

export type Incoming =
  | {
      readonly kind: 'call'
      readonly head: RequestHead
      readonly twin: number
      readonly command: string
      readonly payload: string
      /** Milliseconds since 1970; no answer is of use afterwards. */
      readonly expires: number
    }
  | {
      readonly kind: 'refused'
      readonly head: RequestHead
      readonly answer: Answer & { readonly ok: false }
      readonly expires: number
    }
  /** Nobody to answer, or nothing to answer. */
  | {
      readonly kind: 'dropped'
      readonly why: 'malformed' | 'schema' | 'expired' | 'reply-queue'
      /** For the log; never what the message holds. */
      readonly reason: string
    }

/**
 * Reads a request as a peer leaves it in `msgbus.<command>`.
 *
 * @param now Milliseconds since 1970. A request from later than that counts as sent now.
 */
export function readRequest(text: string, now: number): Incoming {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    return malformed('it is not JSON')
  }
  if (typeof json !== 'object' || json === null) return malformed('it is no object')
  const { ver, ref, src, cmd, exp, dat, ret, shm, now: sent } = json as Record<string, unknown>
  const twin = twinOf(src)
  if (!isCount(ver)) return malformed('"ver" is no number')
  if (!isNone(ref) && !isShort(ref)) return malformed('"ref" is no text')
  if (!isShort(src) || twin === undefined) return malformed('"src" does not begin with a twin')
  if (!isShort(cmd)) return malformed('"cmd" is no text')
  if (!isNone(exp) && !isCount(exp)) return malformed('"exp" is no number of seconds')
  if (!isNone(sent) && !isCount(sent)) return malformed('"now" is no time')
  if (!isNone(dat) && typeof dat !== 'string') return malformed('"dat" is no text')
  if (!isNone(shm) && shm !== '' && shm !== SCHEMA) {
    return { kind: 'dropped', why: 'schema', reason: `its schema is not ${SCHEMA}` }
  }
  if (ret !== REPLY_QUEUE) {
    const reason = `it wants its reply elsewhere than in ${REPLY_QUEUE}`
    return { kind: 'dropped', why: 'reply-queue', reason }
  }
  const expires = expiry(sent ?? 0, exp ?? 0, now)
  if (expires <= now) return { kind: 'dropped', why: 'expired', reason: 'it has expired' }
  const head = { version: ver, reference: ref ?? null, source: src, schema: shm }
  const payload = payloadOf(dat ?? '')
  if (payload === undefined) {
    const answer = { ok: false, code: 101, message: 'invalid payload: it is not UTF-8 in base64' }
    return { kind: 'refused', head, expires, answer: answer as Answer & { ok: false } }
  }
  return { kind: 'call', head, twin, command: cmd, payload, expires }
}

/** @param now Milliseconds since 1970. */
export function writeReply(head: RequestHead, answer: Answer, now: number): string {
  return JSON.stringify({
    ver: head.version,
    ref: head.reference,
    dst: head.source,
    dat: Buffer.from(answer.ok ? answer.text : 'null').toString('base64'),
    shm: head.schema,
    now: Math.floor(now / 1000),
    ...(!answer.ok && { err: { code: answer.code, message: answer.message } }),
  })
}

/** Seconds to milliseconds; zero is a time or a length that was not said. */
function expiry(sent: number, ttl: number, now: number): number {
  const begin = sent === 0 ? now : Math.min(sent * 1000, now)
  return begin + (ttl === 0 ? DEFAULT_TTL_S : Math.min(ttl, MAX_TTL_S)) * 1000
}

function twinOf(source: unknown): number | undefined {
  const digits = typeof source === 'string' ? /^\d{1,10}(?=:|$)/.exec(source)?.[0] : undefined
  const twin = Number(digits)
  return digits !== undefined && twin > 0 && twin < 2 ** 32 ? twin : undefined
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function payloadOf(base64: string): string | undefined {
  if (base64.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(base64)) return undefined
  try {
    return utf8.decode(Buffer.from(base64, 'base64'))
  } catch {
    return undefined
  }
}

function malformed(reason: string): Incoming {
  return { kind: 'dropped', why: 'malformed', reason }
}

function isNone(value: unknown): value is null | undefined {
  return value === null || value === undefined
}

function isShort(value: unknown): value is string {
  return typeof value === 'string' && value.length <= MAX_TEXT
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}
