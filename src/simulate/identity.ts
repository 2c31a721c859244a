import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import type { Der } from '../x509/der-write.ts'
import {
  authorityKeyIdentifier,
  basicConstraints,
  certificatePem,
  type DistinguishedName,
  issueCertificate,
  keyUsage,
  nameDer,
  subjectKeyIdentifier,
} from '../x509/issue.ts'
import { parsePemChain, readPem } from '../x509/pem.ts'

/** A key, and the certificate that names it. */
export interface Identity {
  readonly subject: DistinguishedName
  /** DER. */
  readonly certificate: Uint8Array
  readonly publicKey: KeyObject
  readonly privateKey: KeyObject
}

/** What an identity is made for; times are Unix milliseconds. */
export interface IdentityFields {
  readonly subject: DistinguishedName
  readonly curve: 'P-256' | 'P-384'
  readonly validFrom: number
  readonly validTo: number
  /** An authority for certificates and revocation lists; otherwise it signs data. */
  readonly ca: boolean
  /** For an authority: how many others may follow it. Default any number. */
  readonly pathLength?: number | undefined
  readonly extensions?: readonly Der[]
}

/** A fresh key with a certificate by `issuer`; without one it is self-signed. */
export function createIdentity(fields: IdentityFields, issuer?: Identity): Identity {
  const { subject } = fields
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: fields.curve })
  const signer = issuer ?? { subject, publicKey, privateKey }
  const { validFrom, validTo } = fields
  const extensions = [
    basicConstraints(fields.ca, fields.pathLength),
    fields.ca ? keyUsage('keyCertSign', 'cRLSign') : keyUsage('digitalSignature', 'nonRepudiation'),
    subjectKeyIdentifier(publicKey),
    authorityKeyIdentifier(signer.publicKey),
    ...(fields.extensions ?? []),
  ]
  const certificate = issueCertificate(
    { subject, issuer: signer.subject, publicKey, validFrom, validTo, extensions },
    signer.privateKey,
  )
  return { subject, certificate, publicKey, privateKey }
}

/** Identities as one PEM text: for each its certificate, then its key as PKCS #8. */
export function writeIdentities(identities: readonly Identity[]): string {
  return identities
    .map(({ certificate, privateKey }) => {
      const key = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
      return `${certificatePem(certificate)}${key}`
    })
    .join('')
}

/**
 * Reads what {@link writeIdentities} wrote.
 *
 * @param subjects Of the identities expected, in order.
 * @throws {Error} When one is missing or damaged, or a key is not its certificate's.
 */
export function readIdentities(pem: string, subjects: readonly DistinguishedName[]): Identity[] {
  const certificates = parsePemChain(pem)
  const keys = readPem(pem, 'PRIVATE KEY', subjects.length)
  return subjects.map((subject, i) => {
    const [certificate, key] = [certificates[i], keys[i]]
    const name = nameOf(subject)
    if (!certificate || !key) throw new Error(`certificate or key of "${name}" is missing`)
    const privateKey = createPrivateKey({ key: Buffer.from(key), format: 'der', type: 'pkcs8' })
    const publicKey = createPublicKey(privateKey)
    const spki = publicKey.export({ type: 'spki', format: 'der' })
    if (!spki.equals(certificate.spki)) throw new Error(`the key of "${name}" is another one's`)
    if (!same(nameDer(subject), certificate.subject.der)) {
      throw new Error(`where "${name}" is expected, there is another certificate`)
    }
    return { subject, certificate: certificate.der, publicKey, privateKey }
  })
}

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0

const nameOf = (subject: DistinguishedName): string =>
  subject.map(([attribute, value]) => `${attribute}=${value}`).join(', ')
