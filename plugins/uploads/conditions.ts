import { ApiError } from '../../src/errors.ts'
import { refused } from './failure.ts'

/** The request headers that guard a replacement, RFC 9110 §13.1. */
export interface Conditions {
  readonly ifMatch?: string | undefined
  readonly ifNoneMatch?: string | undefined
}

/** The strong entity tag of a content: its SHA-256 in hex, quoted. */
export function entityTag(sha256: string): string {
  return `"${sha256}"`
}

/**
 * Checks a request's conditions against the file as it is.
 *
 * @param current SHA-256 of the file in hex; undefined when there is none.
 * @throws {UploadFailure} 412 `UPLOAD_CHANGED`.
 */
export function assertConditions(
  { ifMatch, ifNoneMatch }: Conditions,
  current: string | undefined,
  name: string,
): void {
  const state = current === undefined ? 'there is no such file' : `the file is "${current}"`
  // The headers themselves are not quoted: they are the caller's, and this text becomes an event.
  if (ifMatch !== undefined && !matches(ifMatch, current)) {
    throw changed(`Cannot replace upload "${name}": ${state}, which If-Match does not name`)
  }
  if (ifNoneMatch !== undefined && matches(ifNoneMatch, current)) {
    throw changed(`Cannot replace upload "${name}": ${state}, which If-None-Match excludes`)
  }
}

/**
 * The SHA-256 a `Content-Digest` or `Repr-Digest` header promises, in hex; undefined when it names
 * other algorithms only, which a recipient may ignore. Uploads are stored as sent, so the two mean
 * the same. Source: RFC 9530 §2 and §3.
 *
 * @throws {ApiError} 400 `INVALID_DIGEST`.
 */
export function promisedSha256(header: string | undefined): string | undefined {
  const member = header
    ?.split(',')
    .map((part) => part.trim())
    .find((part) => /^sha-256\b/.test(part))
  if (member === undefined) return undefined
  const base64 = /^sha-256=:([A-Za-z0-9+/]{43}=):$/.exec(member)?.[1]
  if (base64 === undefined) {
    throw new ApiError(
      400,
      'INVALID_DIGEST',
      `Cannot read the digest "${member.slice(0, 80)}": expected sha-256=:BASE64: of 32 bytes`,
    )
  }
  return Buffer.from(base64, 'base64').toString('hex')
}

/** Strong comparison against `*` or a list of entity tags; weak ones match nothing. */
function matches(header: string, current: string | undefined): boolean {
  if (current === undefined) return false
  if (header.trim() === '*') return true
  const tags = header.split(',').map((tag) => tag.trim())
  return tags.includes(entityTag(current))
}

function changed(message: string) {
  return refused(412, 'UPLOAD_CHANGED', message)
}
