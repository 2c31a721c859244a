import { createPrivateKey, type KeyObject } from 'node:crypto'
import { EvidenceError } from '../../../src/attest/evidence-error.ts'
import { raTlsExtensions } from '../../../src/attest/ra-tls.ts'
import type { Attester } from '../../../src/attester/attester.ts'
import type { PemPair } from '../../../src/tls/self-signed.ts'
import { type Certificate, MAX_CERTIFICATE_BYTES } from '../../../src/x509/certificate.ts'
import { verifyPath } from '../../../src/x509/path.ts'
import { parsePemChain } from '../../../src/x509/pem.ts'
import { type Authority, readAuthority } from '../certificates/authority.ts'
import { evidenceAbout } from '../certificates/evidence.ts'
import { issueLeaf } from '../certificates/leaf.ts'
import { p256Key } from '../certificates/p256-key.ts'
import { randomP256Scalar } from '../derivation/curves.ts'
import { textOf } from './answer.ts'

/** What a KMS answers to GetTempCaCert, read. */
export interface TemporaryAuthority {
  /** Signs the certificates of clients. Its key is given to everybody and proves nothing. */
  readonly authority: Authority
  readonly certificate: Certificate
  /** The KMS's root certificate. */
  readonly root: Certificate
}

/** In characters; base64 has four for three bytes. */
const MAX_PEM = 2 * MAX_CERTIFICATE_BYTES
const MAX_KEY_PEM = 4096

/**
 * Reads the answer of GetTempCaCert.
 *
 * @param at Unix time in milliseconds.
 * @throws {Error} When there is no authority in it that can issue now.
 */
export function readTemporaryAuthority(
  answer: Readonly<Record<string, unknown>>,
  at: number,
): TemporaryAuthority {
  const pem = textOf(answer, 'temp_ca_cert', MAX_PEM)
  const [certificate] = parsePemChain(pem, 1)
  if (!certificate.isCa) {
    throw new EvidenceError('CERTIFICATE_NOT_CA', 'its temporary authority is none')
  }
  verifyPath([], certificate, at)
  const authority = readAuthority(pem, keyOf(textOf(answer, 'temp_ca_key', MAX_KEY_PEM)))
  const [root] = parsePemChain(textOf(answer, 'ca_cert', MAX_PEM), 1)
  return { authority, certificate, root }
}

/** @throws {EvidenceError} It does not repeat the text. */
function keyOf(pem: string): KeyObject {
  try {
    return createPrivateKey({ key: pem, format: 'pem' })
  } catch {
    throw new EvidenceError('KEY_UNUSABLE', 'the key of its temporary authority cannot be read')
  }
}

/**
 * A client certificate for a fresh key, with fresh evidence about it (spec dstack §8).
 *
 * @param config The `vm_config` that goes along with the evidence.
 * @returns The certificate alone, and its key.
 * @throws {ApiError} As `evidenceAbout`, or 409 when the evidence makes it larger than peers read.
 */
export async function mintClientCertificate(
  authority: Authority,
  attester: Attester,
  config: string,
  signal: AbortSignal,
): Promise<PemPair> {
  const scalar = randomP256Scalar()
  const key = p256Key(scalar)
  scalar.fill(0)
  const attestation = await evidenceAbout(attester, key.spki, config, { signal })
  const request = { subject: 'RA-TLS TEMP Cert', altNames: [], serverAuth: false, clientAuth: true }
  const [cert = ''] = issueLeaf(authority, key, request, raTlsExtensions({ attestation }))
  return { cert, key: key.pem }
}
