import { EvidenceError } from '../attest/evidence-error.ts'
import type { Certificate } from './certificate.ts'
import { DerReader, TAG } from './der-read.ts'
import { type Name, readName } from './name.ts'
import { isSignedBy, readSigned, type Signed } from './signed.ts'

/** A complete certificate revocation list (RFC 5280 §5.1). */
export interface Crl {
  readonly issuer: Name
  /** Unix time in milliseconds. */
  readonly thisUpdate: number
  readonly nextUpdate: number
  readonly signed: Signed
  /** Serial numbers of revoked certificates, lower-case hex without a sign octet. */
  readonly revoked: ReadonlySet<string>
}

/**
 * Largest list that is read, in bytes: some 3000 entries, read in about 5 ms. Intel's lists stay
 * below 4 KiB.
 */
export const MAX_CRL_BYTES = 128 * 1024

// Extensions of a complete list that say nothing a lookup has to know: authority key
// identifier, list number.
const HARMLESS = new Set(['2.5.29.35', '2.5.29.20'])

/**
 * Reads a revocation list. Nothing is verified: see `isCrlIssuedBy`.
 *
 * @throws {EvidenceError} `CRL_TOO_LONG`, `CRL_UNSUPPORTED` for a list that is not complete, or
 *   has critical extensions, or `DER_MALFORMED`.
 */
export function parseCrl(der: Uint8Array): Crl {
  if (der.length > MAX_CRL_BYTES) {
    throw new EvidenceError(
      'CRL_TOO_LONG',
      `Cannot read CRL: ${der.length} bytes, at most ${MAX_CRL_BYTES} are read`,
    )
  }
  const signed = readSigned(der, 'CRL')
  const tbs = new DerReader(signed.tbs, 'CRL').enter(TAG.sequence)
  if (tbs.small() !== 1) throw unsupported('its version is not 2')
  const algorithm = tbs.read(TAG.sequence).whole
  if (Buffer.compare(algorithm, signed.algorithm) !== 0) {
    throw tbs.malformed('two signature algorithms')
  }
  const issuer = readName(tbs)
  const thisUpdate = tbs.time()
  const nextUpdate = tbs.time()
  const revoked =
    tbs.next === TAG.sequence ? readRevoked(tbs.enter(TAG.sequence)) : new Set<string>()
  if (tbs.next === 0xa0) rejectCritical(tbs.enter(0xa0), HARMLESS)
  tbs.end()
  return { issuer, thisUpdate, nextUpdate, signed, revoked }
}

/** Whether the list carries the authority's name, and its key made the signature. */
export function isCrlIssuedBy(crl: Crl, authority: Certificate): boolean {
  return (
    Buffer.compare(crl.issuer.der, authority.subject.der) === 0 &&
    isSignedBy(crl.signed, authority.publicKey)
  )
}

/** Whether a serial number, big endian without a sign octet, is on the list. */
export function isRevoked(crl: Crl, serial: Uint8Array): boolean {
  return crl.revoked.has(Buffer.from(serial).toString('hex'))
}

function readRevoked(entries: DerReader): Set<string> {
  const revoked = new Set<string>()
  while (!entries.done) {
    const entry = entries.enter(TAG.sequence)
    revoked.add(Buffer.from(entry.unsigned()).toString('hex'))
    // When it was revoked does not matter, and reading times would take most of the time here.
    entry.read()
    if (!entry.done) rejectCritical(entry, NONE)
    entry.end()
  }
  return revoked
}

const NONE: ReadonlySet<string> = new Set()

/** Critical extensions change what a list or an entry means: which certificates, since when. */
function rejectCritical(holder: DerReader, allowed: ReadonlySet<string>): void {
  const extensions = holder.enter(TAG.sequence)
  while (!extensions.done) {
    const extension = extensions.enter(TAG.sequence)
    const oid = extension.oid()
    const critical = extension.optionalTrue()
    extension.read(TAG.octetString)
    extension.end()
    if (critical && !allowed.has(oid)) throw unsupported(`it has critical extension ${oid}`)
  }
}

function unsupported(why: string): EvidenceError {
  return new EvidenceError('CRL_UNSUPPORTED', `Cannot use CRL: ${why}`)
}
