import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'
import { parseCertificate } from '../../src/x509/certificate.ts'
import {
  bitString,
  type Der,
  element,
  explicit,
  implicit,
  integer,
  oid,
  sequence,
  time,
} from '../../src/x509/der-write.ts'
import {
  basicConstraints,
  certificatePem,
  extension,
  issueCertificate,
  issueCrl,
  nameDer,
  pemBlock,
} from '../../src/x509/issue.ts'
import type { Issued } from './certificates.ts'

const DAY_MS = 24 * 3600 * 1000
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2'
export const SERVER_AUTH = '1.3.6.1.5.5.7.3.1'

/** A certificate with its key in PEM. */
export interface TestClient extends Issued {
  readonly cert: string
  readonly key: string
}

/** What to put into the certificate of a client; good for one by default. */
export interface ClientRecipe {
  readonly name?: string
  readonly from?: number
  readonly to?: number
  readonly usage?: string | undefined
  readonly uri?: string
  readonly email?: string
  readonly dns?: string
  /** Certificates that are sent along. */
  readonly with?: readonly Issued[]
  readonly kind?: 'ec' | 'rsa'
  readonly ca?: boolean
}

/** A client's certificate, or with `ca` one of an authority below another. */
export function issueClient(issuer: Issued, recipe: ClientRecipe = {}): TestClient {
  const { name = 'client', usage = CLIENT_AUTH, kind = 'ec', ca = false } = recipe
  const { publicKey, privateKey } = newKeys(kind)
  const names = [
    ...(recipe.email === undefined ? [] : [implicit(1, Buffer.from(recipe.email))]),
    ...(recipe.dns === undefined ? [] : [implicit(2, Buffer.from(recipe.dns))]),
    ...(recipe.uri === undefined ? [] : [implicit(6, Buffer.from(recipe.uri))]),
  ]
  const subject = [['CN', name]] as const
  const der = issueAny(
    {
      subject,
      issuer: issuer.subject,
      publicKey,
      validFrom: recipe.from ?? Date.now() - DAY_MS,
      validTo: recipe.to ?? Date.now() + DAY_MS,
      extensions: [
        basicConstraints(ca),
        ...(ca ? [] : [extension('2.5.29.37', true, sequence(oid(usage)))]),
        ...(names.length > 0 ? [extension('2.5.29.17', false, sequence(...names))] : []),
      ],
    },
    issuer.privateKey,
  )
  const chain = [der, ...(recipe.with ?? []).map((one) => one.der)]
  return {
    der,
    subject,
    publicKey,
    privateKey,
    cert: chain.map(certificatePem).join(''),
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  }
}

/** An authority with an RSA key. */
export function rsaAuthority(name: string): Issued {
  const { publicKey, privateKey } = newKeys('rsa')
  const subject = [['CN', name]] as const
  const dates = { validFrom: Date.now() - DAY_MS, validTo: Date.now() + DAY_MS }
  const extensions = [basicConstraints(true)]
  const fields = { subject, issuer: subject, publicKey, extensions, ...dates }
  return { der: issueAny(fields, privateKey), subject, publicKey, privateKey }
}

/** The list of an authority with what it took back, in PEM. */
export function crlOf(
  issuer: Issued,
  revoked: readonly Issued[],
  { from = Date.now() - DAY_MS, to = Date.now() + DAY_MS } = {},
): string {
  const serials = revoked.map(({ der }) => parseCertificate(der).serial)
  const fields = { issuer: issuer.subject, thisUpdate: from, nextUpdate: to, number: 1 }
  return pemBlock('X509 CRL', issueCrl({ ...fields, revoked: serials }, issuer.privateKey))
}

/** SHA-256 in hex. */
export const sha256 = (bytes: Uint8Array): string =>
  createHash('sha256').update(bytes).digest('hex')

/** SHA-256 of a public key, in hex. */
export const keySha256 = ({ publicKey }: Issued): string =>
  sha256(publicKey.export({ type: 'spki', format: 'der' }))

function newKeys(kind: 'ec' | 'rsa'): { publicKey: KeyObject; privateKey: KeyObject } {
  return kind === 'ec'
    ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
    : generateKeyPairSync('rsa', { modulusLength: 2048 })
}

type Fields = Parameters<typeof issueCertificate>[0]

function issueAny(fields: Fields, issuerKey: KeyObject): Uint8Array {
  if (issuerKey.asymmetricKeyType === 'ec') return issueCertificate(fields, issuerKey)
  const algorithm = sequence(oid('1.2.840.113549.1.1.11'), element(0x05))
  const issuer = fields.issuer instanceof Uint8Array ? fields.issuer : nameDer(fields.issuer)
  const body: Der = sequence(
    explicit(0, integer(Uint8Array.of(2))),
    integer(randomBytes(16)),
    algorithm,
    issuer,
    sequence(time(fields.validFrom), time(fields.validTo)),
    nameDer(fields.subject),
    fields.publicKey.export({ type: 'spki', format: 'der' }),
    explicit(3, sequence(...fields.extensions)),
  )
  return sequence(body, algorithm, bitString(sign('sha256', body, issuerKey)))
}
