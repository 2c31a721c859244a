import { sameBytes } from '../../../src/attest/hex.ts'
import { readRaTls } from '../../../src/attest/ra-tls.ts'
import { type Certificate, isIssuedBy } from '../../../src/x509/certificate.ts'
import { certificatePem } from '../../../src/x509/issue.ts'
import { verifyPath } from '../../../src/x509/path.ts'
import { parsePemChain } from '../../../src/x509/pem.ts'

/** What a chain has to be. */
export interface ExpectedChain {
  /** SubjectPublicKeyInfo, DER, of the key that the first certificate has to name. */
  readonly spki: Uint8Array
  /** In which it has to end. */
  readonly root: Certificate
  /** Whether there has to be evidence about the key. */
  readonly withEvidence: boolean
  /** Unix time in milliseconds. */
  readonly at: number
}

/** Critical where nothing else names the subject (RFC 5280 §4.2.1.6). */
const ALTERNATIVE_NAMES = '2.5.29.17'

const LEAST = 2
const MOST = 4
const MAX_CHARACTERS = 64 * 1024

/**
 * Reads a chain that somebody else issued and checks it before an application relies on it.
 *
 * @param answered PEM, one certificate each, leaf first; the root may be the last.
 * @returns The same in PEM of our making, with the root.
 * @throws {EvidenceError} As `parsePemChain` and `verifyPath`.
 * @throws {Error} For another key, another root, or evidence that is missing or not about the key.
 */
export function readIssuedChain(answered: unknown, expected: ExpectedChain): readonly string[] {
  const { root, spki, withEvidence, at } = expected
  const [leaf, ...others] = certificatesOf(answered)
  if (!leaf) throw new Error('there is no certificate')
  const last = others.at(-1)
  const hasRoot = last !== undefined && sameBytes(last.spki, root.spki)
  // It may have been made anew since, with the same key.
  if (hasRoot && !isIssuedBy(last, root)) throw new Error('its root is not what was expected')
  const authorities = hasRoot ? others.slice(0, -1) : others
  if (!sameBytes(leaf.spki, spki)) throw new Error('it is for another key')
  if (leaf.isCa) throw new Error('it may issue certificates')
  verifyPath([usable(leaf, at), ...authorities], root, at)
  if (withEvidence && !readRaTls(leaf).evidence?.bound) {
    throw new Error('it has no evidence about its key')
  }
  return [leaf, ...authorities, hasRoot ? last : root].map(({ der }) => certificatePem(der))
}

/** As it is for who asked for it, who knows when it is valid and what its names are. */
function usable(leaf: Certificate, at: number): Certificate {
  const unknownCritical = leaf.unknownCritical.filter((oid) => oid !== ALTERNATIVE_NAMES)
  return { ...leaf, notBefore: at, notAfter: at, unknownCritical }
}

function certificatesOf(answered: unknown): Certificate[] {
  if (!Array.isArray(answered) || answered.length < LEAST || answered.length > MOST) {
    throw new Error(`it is no list of ${LEAST} to ${MOST} certificates`)
  }
  return answered.map((pem: unknown) => {
    if (typeof pem === 'string' && pem.length <= MAX_CHARACTERS) return parsePemChain(pem, 1)[0]
    throw new Error('a certificate is no text in PEM')
  })
}
