import { quoted, refusal, twinIdOf } from './refusal.ts'

/** How long a challenge is good, in seconds. */
export const CHALLENGE_SECONDS = 60

/** How far ahead of this machine's clock the signer's may be, in seconds. */
export const CHALLENGE_SKEW = 10

/** Longest header that is looked at, in characters. */
const MAX_HEADER = 512

/** What an `X-Auth` header says, its form checked but neither its time nor its signature. */
export interface Challenge {
  readonly twinId: number
  /** Seconds since 1970. */
  readonly timestamp: number
  /** What the signature is over. */
  readonly signed: Uint8Array
  /** 64 bytes. */
  readonly signature: Uint8Array
}

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

/**
 * Reads `X-Auth: base64("<unix time>:<twin id>"):base64(signature)` (spec zos §10.5).
 *
 * @throws {ZosError} `authentication`.
 * @see tfgridv4-sdk-go `node-registrar/pkg/server/middlewares.go`
 */
export function readChallenge(header: string): Challenge {
  if (header.length > MAX_HEADER) throw invalid(`it is over ${MAX_HEADER} characters`)
  const parts = header.split(':')
  if (parts.length !== 2 || !parts.every((part) => part !== '' && BASE64.test(part))) {
    throw invalid('it is not two parts in base64 with a colon between them')
  }
  const [signed, signature] = parts.map((part) => new Uint8Array(Buffer.from(part, 'base64')))
  const text = Buffer.from(signed as Uint8Array).toString('latin1')
  const [, time = '', twin = ''] = /^(\d{1,12}):(\d{1,10})$/.exec(text) ?? []
  const twinId = twinIdOf(twin)
  if (twinId === undefined) throw invalid(`${quoted(text)} is not "<unix time>:<twin id>"`)
  if (signature?.length !== 64)
    throw invalid(`its signature has ${signature?.length} bytes, not 64`)
  return { twinId, timestamp: Number(time), signed: signed as Uint8Array, signature }
}

/**
 * Checks when a challenge is good.
 *
 * @param now Seconds since 1970.
 * @throws {ZosError} `authentication`.
 */
export function checkChallengeTime({ timestamp }: Challenge, now: number): void {
  const age = Math.floor(now) - timestamp
  if (age > CHALLENGE_SECONDS) throw invalid(`it was signed ${age} s ago, at most 60 s are taken`)
  if (age < -CHALLENGE_SKEW) throw invalid(`it was signed ${-age} s ahead of this machine's clock`)
}

function invalid(why: string) {
  return refusal(`invalid X-Auth: ${why}`)
}
