import { EvidenceError } from '../../../src/attest/evidence-error.ts'
import { sameBytes } from '../../../src/attest/hex.ts'
import { type RaTls, readRaTls } from '../../../src/attest/ra-tls.ts'
import { messageOf } from '../../../src/errors.ts'
import { type Certificate, isIssuedBy, parseCertificate } from '../../../src/x509/certificate.ts'
import { verifyPath } from '../../../src/x509/path.ts'
import { isRootLink } from '../certificates/root-name.ts'
import {
  type EvidenceTrust,
  type VerifiedEvidence,
  verifyEvidence,
} from '../trust/verified-evidence.ts'
import { KmsError } from './connection.ts'

/** The certificates that a server showed, read; the first is of the key that it proved to have. */
export type Shown = readonly [Certificate, ...Certificate[]]

/** A KMS's own certificate, and what it says of its owner. */
export interface KmsCertificate {
  readonly leaf: Certificate
  readonly evidence: NonNullable<RaTls['evidence']>
}

/**
 * Reads what was shown, and that its owner is meant to be a KMS: applications have certificates
 * under the same root (spec dstack §13, item 22).
 *
 * @param shown DER.
 * @throws {EvidenceError} `KMS_USAGE`, `KMS_EVIDENCE_MISSING`, or what its readers throw.
 */
export function kmsCertificateOf(
  shown: readonly [Uint8Array, ...Uint8Array[]],
): KmsCertificate & { readonly shown: Shown } {
  const [first, ...others] = shown
  const leaf = parseCertificate(first)
  const { usage, evidence } = readRaTls(leaf)
  if (usage !== 'kms:rpc') {
    throw new EvidenceError('KMS_USAGE', 'its certificate is not made for a KMS')
  }
  if (!evidence) throw new EvidenceError('KMS_EVIDENCE_MISSING', 'its certificate has no evidence')
  return { leaf, evidence, shown: [leaf, ...others.map(parseCertificate)] }
}

/**
 * The root in which the chain ends. What stands between may be shown in any order. A root that a
 * known one has signed in place of itself is as good as that one.
 *
 * @param roots At least one.
 * @param at Unix time in milliseconds.
 * @throws {EvidenceError} `KMS_ROOT_UNKNOWN`, `KMS_AUTHORITY`, or as `verifyPath`.
 */
export function rootOf(
  [leaf, ...others]: Shown,
  roots: readonly Certificate[],
  at: number,
): Certificate {
  let path = [leaf]
  const left = new Set(others)
  for (;;) {
    const last = path[path.length - 1] as Certificate
    const root = roots.find((candidate) => isIssuedBy(last, candidate))
    if (root) {
      verifyPath(path, root, at)
      return root
    }
    const next = [...left].find((candidate) => isIssuedBy(last, candidate))
    if (!next) {
      throw new EvidenceError('KMS_ROOT_UNKNOWN', 'its certificate does not end in a known root')
    }
    // Made by the KMS for an application, whose certificates are never those of a KMS.
    if (readRaTls(next).usage !== undefined) {
      throw new EvidenceError('KMS_AUTHORITY', 'its certificate is issued by an application')
    }
    left.delete(next)
    if (isRootLink(next)) {
      verifyPath(path, next, at)
      path = []
    }
    path.push(next)
  }
}

/** What the owner of the certificate measured; as {@link verifyEvidence}. */
export function measuredBy(
  { leaf, evidence }: KmsCertificate,
  trust: EvidenceTrust,
  at: number,
): Promise<VerifiedEvidence> {
  return verifyEvidence(evidence.platform, leaf.spki, trust, at)
}

/** Whether two certificates are of one key. */
export const sameKey = (one: Certificate, other: Certificate): boolean =>
  sameBytes(one.spki, other.spki)

/** A KMS that is not to be believed. */
export function notVerified(url: string, why: string, cause?: unknown): KmsError {
  return new KmsError('KMS_NOT_VERIFIED', `Cannot believe KMS ${url}: ${why}`, { cause })
}

/**
 * Does what finds out whether a KMS may be believed.
 *
 * @throws {KmsError} `KMS_NOT_VERIFIED` in place of anything else that is thrown, its cause.
 */
export async function believing<T>(url: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    throw cause instanceof KmsError ? cause : notVerified(url, messageOf(cause), cause)
  }
}
