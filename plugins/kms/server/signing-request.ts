import type { KeyObject } from 'node:crypto'
import { type Container, readContainer } from '../../../src/attest/container.ts'
import { parseEventLog } from '../../../src/attest/event-log.ts'
import { EvidenceError } from '../../../src/attest/evidence-error.ts'
import { sameBytes } from '../../../src/attest/hex.ts'
import { evidenceReportData } from '../../../src/attest/ra-tls.ts'
import { ScaleReader } from '../../../src/attest/scale.ts'
import { isSignedBy, readPublicKey } from '../../../src/x509/signed.ts'
import { LAST_SECOND, type LeafRequest } from '../certificates/leaf.ts'
import { CONFIRM } from '../certificates/write-signing-request.ts'

/** What an application's agent wants to have signed (spec dstack §8, CSR). */
export interface SigningRequest {
  /** SubjectPublicKeyInfo, DER, of a key on P-256, in the one form that certificates have. */
  readonly spki: Uint8Array
  readonly publicKey: KeyObject
  readonly leaf: LeafRequest
  /** Put the evidence into the certificate. */
  readonly withEvidence: boolean
  readonly withAppInfo: boolean
  /** Evidence about the key. */
  readonly attestation: Container
}

/** Of the request, as the message of the call has it: 2 has more fields, and a container. */
export type SigningRequestVersion = 1 | 2

const MAX_ALT_NAMES = 32

/** Algorithm and curve, and a point with both coordinates. */
const P256_SPKI_BYTES = 91

/**
 * Reads a request; nothing may follow it.
 *
 * @throws {EvidenceError} `CSR_MALFORMED`, or what the readers of its parts throw.
 */
export function readSigningRequest(
  bytes: Uint8Array,
  version: SigningRequestVersion,
): SigningRequest {
  const reader = new RequestReader(bytes, 'csr')
  if (reader.text() !== CONFIRM) throw malformed(`it does not begin with "${CONFIRM}"`)
  const spki = new Uint8Array(reader.bytes())
  const organization = reader.option(() => reader.text())
  const leaf = {
    organization,
    subject: reader.text(),
    altNames: reader.list(MAX_ALT_NAMES, () => reader.text()),
    serverAuth: reader.flag(),
    clientAuth: reader.flag(),
  }
  const withEvidence = reader.flag()
  const common = { spki, publicKey: p256Of(spki), withEvidence }
  if (version === 1) {
    const attestation = olderEvidence(reader)
    return { ...common, leaf, withAppInfo: false, attestation }
  }
  const withAppInfo = reader.flag()
  const notBefore = reader.option(() => reader.seconds())
  const notAfter = reader.option(() => reader.seconds())
  // The container ends where the request does, and has no length of its own.
  const attestation = readContainer(reader.take(reader.remaining))
  return { ...common, leaf: { ...leaf, notBefore, notAfter }, withAppInfo, attestation }
}

/**
 * Whether the key that a certificate is wanted for has signed the request.
 *
 * @param bytes As they were read.
 * @param signature ECDSA with SHA-256, DER.
 */
export function isSignedByItsKey(
  { publicKey }: SigningRequest,
  bytes: Uint8Array,
  signature: Uint8Array,
): boolean {
  return isSignedBy({ tbs: bytes, algorithm: NONE, hash: 'sha256', signature }, publicKey)
}

const NONE = new Uint8Array()

/** SCALE with what a request has beside numbers and text. */
class RequestReader extends ScaleReader {
  flag(): boolean {
    const value = this.u8()
    if (value > 1) throw malformed(`a flag is ${value}, expected 0 or 1`)
    return value === 1
  }

  option<T>(read: () => T): T | undefined {
    return this.flag() ? read() : undefined
  }

  /** Unix time in seconds, as far as certificates go. */
  seconds(): number {
    const value = this.u64()
    if (value > BigInt(LAST_SECOND)) throw malformed(`no certificate can hold the time ${value}`)
    return Number(value)
  }
}

/** A quote and its event log as JSON. */
function olderEvidence(reader: RequestReader): Container {
  const quote = new Uint8Array(reader.bytes())
  const eventLog = parseEventLog(reader.text())
  reader.end()
  const platform = { kind: 'tdx', quote, eventLog } as const
  const reportData = evidenceReportData(platform)
  const stack = { kind: 'dstack', reportData, runtimeEvents: [], config: '' } as const
  return { version: 0, platform, stack }
}

/**
 * A key in another form than its certificate's would not be the one the evidence is about; some
 * runtimes keep a point that is written shorter as it is.
 */
function p256Of(spki: Uint8Array): KeyObject {
  const key = readPublicKey(spki, 'csr')
  const isP256 = key.asymmetricKeyDetails?.namedCurve === 'prime256v1'
  const isWhole = spki.length === P256_SPKI_BYTES
  if (isP256 && isWhole && sameBytes(key.export({ type: 'spki', format: 'der' }), spki)) return key
  throw malformed('its key is not on P-256, or not in the form of RFC 5480')
}

function malformed(why: string): EvidenceError {
  return new EvidenceError('CSR_MALFORMED', `Cannot read csr: ${why}`)
}
