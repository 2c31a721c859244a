import { MAX_AUTHORIZATION } from '../../../src/auth/basic.ts'
import { quoted, refusal, twinIdOf } from './refusal.ts'

/** How far ahead of now a token may expire, in seconds. */
const MOST_AHEAD = 120

/** How much clocks may differ, in seconds. */
const SKEW = 10

/** A JWT of a twin's, its form checked but neither its time nor its signature. */
export interface Token {
  /** The issuer. */
  readonly twinId: number
  /** Seconds since 1970, as the next two. */
  readonly expires: number
  readonly notBefore: number | undefined
  readonly issued: number | undefined
  /** What the signature is over. */
  readonly signed: Uint8Array
  readonly signature: Uint8Array
}

const PART = '[A-Za-z0-9_-]+'
const TOKEN = new RegExp(`^bearer +(${PART})\\.(${PART})\\.(${PART})$`, 'i')
const BEARER_OF_THREE = /^bearer +[^ .]*\.[^ .]*\.[^ .]*$/i

/**
 * Whether an `Authorization` header carries a JWT, good or bad, and not another kind of credential
 * such as a key of the daemon's.
 */
export function hasToken(header: string): boolean {
  return BEARER_OF_THREE.test(header)
}

/**
 * Reads `Authorization: Bearer <JWT>` (spec zos §10.5): EdDSA, the issuer a twin, the audience `zos`.
 *
 * @throws {ZosError} `authentication`.
 * @see zosbase `pkg/provision/mw/auth.go`, RFC 7515 §4.1.11, RFC 7519 §4.1, RFC 8037 §3.1
 */
export function readToken(header: string): Token {
  if (header.length > MAX_AUTHORIZATION) throw invalid(`it is over ${MAX_AUTHORIZATION} characters`)
  const [, head = '', body = '', signature = ''] = TOKEN.exec(header) ?? []
  if (signature === '') throw invalid('it is not three parts in base64url')
  const { alg, crit } = readPart(head, 'header')
  if (alg !== 'EdDSA') throw invalid(`its alg is ${quoted(alg)}, not "EdDSA"`)
  if (crit !== undefined) throw invalid(`it demands extensions (crit), none is known`)
  const claims = readPart(body, 'claims')
  const twinId = twinIdOf(claims.iss)
  if (twinId === undefined) {
    throw invalid(`its iss is ${quoted(claims.iss)}, not the id of a twin as a text`)
  }
  const audience = Array.isArray(claims.aud) ? claims.aud : [claims.aud]
  if (!audience.includes('zos')) throw invalid(`its aud is ${quoted(claims.aud)}, not "zos"`)
  const expires = readTime(claims, 'exp')
  if (expires === undefined) throw invalid('it has no exp')
  return {
    twinId,
    expires,
    notBefore: readTime(claims, 'nbf'),
    issued: readTime(claims, 'iat'),
    signed: new TextEncoder().encode(`${head}.${body}`),
    signature: Buffer.from(signature, 'base64url'),
  }
}

/**
 * Checks when a token is good.
 *
 * @param now Seconds since 1970.
 * @throws {ZosError} `authentication`.
 */
export function checkTokenTime(token: Token, now: number): void {
  const { expires, notBefore = now, issued = now } = token
  if (now >= expires + SKEW) throw invalid(`it expired ${seconds(now - expires)} ago`)
  if (expires - now > MOST_AHEAD) {
    // The words of the reference.
    throw refusal('the expiration date should not be more than 2 minutes')
  }
  if (now < notBefore - SKEW) throw invalid(`it is good only in ${seconds(notBefore - now)}`)
  if (now < issued - SKEW) throw invalid(`it was issued ${seconds(issued - now)} ahead of now`)
}

function readPart(part: string, what: string): Readonly<Record<string, unknown>> {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(part, 'base64url').toString('utf8'))
  } catch {
    // What JSON.parse says quotes the text.
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid(`its ${what} is no JSON object`)
  }
  return value as Record<string, unknown>
}

function readTime(
  claims: Readonly<Record<string, unknown>>,
  name: 'exp' | 'nbf' | 'iat',
): number | undefined {
  const value = claims[name]
  if (value === undefined) return undefined
  if (typeof value === 'number' && Number.isFinite(value)) return value
  throw invalid(`its ${name} is ${quoted(value)}, not a number of seconds`)
}

function seconds(count: number): string {
  return `${Math.ceil(count)} s`
}

function invalid(why: string) {
  return refusal(`invalid token: ${why}`)
}
