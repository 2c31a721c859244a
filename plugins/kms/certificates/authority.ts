import { createPublicKey, type KeyObject } from 'node:crypto'
import { parseCertificate } from '../../../src/x509/certificate.ts'
import { DerReader, TAG } from '../../../src/x509/der-read.ts'
import { type Der, implicit, sequence } from '../../../src/x509/der-write.ts'
import {
  basicConstraints,
  certificatePem,
  type DistinguishedName,
  extension,
  issueCertificate,
  keyUsage,
  subjectKeyIdentifier,
} from '../../../src/x509/issue.ts'
import { readPem } from '../../../src/x509/pem.ts'
import type { P256Key } from './p256-key.ts'

/** Who signs the application's certificates. */
export interface Authority {
  /** Its subject, DER, as its certificate has it. */
  readonly name: Der
  /** Content of its subject key identifier; undefined where it has none. */
  readonly keyIdentifier: Uint8Array | undefined
  readonly privateKey: KeyObject
  /** Its certificate and those above it, PEM, each as it was given. */
  readonly chain: readonly string[]
}

/** Begin of validity where nobody says another: dstack's, so that clocks do not matter. */
export const DEFAULT_NOT_BEFORE = Date.UTC(1975, 0, 1)
export const TEN_YEARS_MS = 10 * 365 * 24 * 3600 * 1000

/** How many certificates may follow that of an application's own authority. */
export const ROOT_PATH_LENGTH = 1

const MAX_CHAIN = 4
const SUBJECT_KEY_IDENTIFIER = '2.5.29.14'

/**
 * An authority from a key and the certificates that name it, its own first.
 *
 * @throws {Error} When a certificate cannot be read, or the first is another key's or on another curve
 *   than P-256 and P-384.
 */
export function readAuthority(pem: string, privateKey: KeyObject): Authority {
  const chain = readPem(pem, 'CERTIFICATE', MAX_CHAIN)
  const own = parseCertificate(chain[0] ?? new Uint8Array())
  const spki = createPublicKey(privateKey).export({ type: 'spki', format: 'der' })
  if (!spki.equals(own.spki)) throw new Error('the certificate is not that of the key')
  if (own.curve !== 'P-256' && own.curve !== 'P-384') {
    throw new Error('its key is on neither P-256 nor P-384')
  }
  const identifier = own.extension(SUBJECT_KEY_IDENTIFIER)
  return {
    name: own.subject.der,
    keyIdentifier:
      identifier && new DerReader(identifier, 'key identifier').read(TAG.octetString).content,
    privateKey,
    chain: chain.map(certificatePem),
  }
}

/** Names the authority's key in what it issues, by the identifier it has itself. */
export function authorityIdentifier({ keyIdentifier }: Authority): readonly Der[] {
  if (!keyIdentifier) return []
  return [extension('2.5.29.35', false, sequence(implicit(0, keyIdentifier)))]
}

/**
 * A certificate by which an application is its own authority.
 *
 * @param extensions Beside those every authority has.
 */
export function selfSigned(
  key: P256Key,
  subject: DistinguishedName,
  extensions: readonly Der[],
): Authority {
  const { publicKey } = key
  const der = issueCertificate(
    {
      subject,
      issuer: subject,
      publicKey,
      validFrom: DEFAULT_NOT_BEFORE,
      validTo: Date.now() + TEN_YEARS_MS,
      extensions: [
        basicConstraints(true, ROOT_PATH_LENGTH),
        keyUsage('digitalSignature', 'keyCertSign', 'cRLSign'),
        subjectKeyIdentifier(publicKey),
        ...extensions,
      ],
    },
    key.privateKey,
  )
  return readAuthority(certificatePem(der), key.privateKey)
}
