import { createPrivateKey } from 'node:crypto'
import { isIP } from 'node:net'
import * as v from 'valibot'
import { fromHex, sameBytes, toHex } from '../../../src/attest/hex.ts'
import { messageOf } from '../../../src/errors.ts'
import { isIssuedBy, parseCertificate } from '../../../src/x509/certificate.ts'
import { readPem } from '../../../src/x509/pem.ts'
import { type Authority, readAuthority } from '../certificates/authority.ts'
import { type P256Key, p256Key } from '../certificates/p256-key.ts'
import { publicKeyOf } from '../derivation/curves.ts'
import { scalarOf } from '../derivation/hashed-key.ts'
import type { RootKeys } from '../derivation/kms-keys.ts'
import { parseJson } from '../policy/json.ts'
import { ROOT_FILES, type RootFileName } from './root-file-names.ts'
import type { BootstrapInfo, RootMaterial } from './root-material.ts'

export { ROOT_FILES, type RootFileName }

/** Content by name; a file that is not there has none. */
export type RootFileContents = ReadonlyMap<RootFileName, Uint8Array>

const Info = v.object({ ca_pubkey: v.string(), k256_pubkey: v.string(), attestation: v.string() })

const MAX_DOMAIN = 253
const MAX_CHAIN = 4

/** What goes into the files of version 0, in their order. */
export function writeRootFiles(material: RootMaterial): RootFileContents {
  const { root, authority, temporaryCa, domain, info } = material
  const contents: [RootFileName, Uint8Array][] = [
    ['root-ca.key', Buffer.from(p256Key(root.ca).pem)],
    ['root-k256.key', root.k256],
    ['tmp-ca.key', Buffer.from(temporaryCa.key.pem)],
    ['root-ca.crt', Buffer.from(authority.chain.join(''))],
    ['tmp-ca.crt', Buffer.from(temporaryCa.certificate)],
    ['rpc-domain', Buffer.from(domain)],
  ]
  if (info) contents.push(['bootstrap-info.json', Buffer.from(writeInfo(info))])
  return new Map(contents)
}

/**
 * Reads what the files of version 0 hold, and whether it belongs together.
 *
 * @throws {Error} Naming the file that is not what it should be, and never quoting from it.
 */
export function readRootFiles(contents: RootFileContents): RootMaterial {
  const read = <T>(name: RootFileName, parse: (bytes: Uint8Array) => T): T => {
    try {
      return parse(contents.get(name) ?? new Uint8Array())
    } catch (error) {
      throw new Error(`${name}: ${messageOf(error)}`)
    }
  }
  const ca = read('root-ca.key', (bytes) => readCaKey(text(bytes)))
  const root: RootKeys = {
    version: 0,
    ca: ca.scalar,
    k256: read('root-k256.key', readK256),
  }
  const temporary = read('tmp-ca.key', (bytes) => readCaKey(text(bytes))).key
  const authority = read('root-ca.crt', (bytes) => readCaCertificate(text(bytes), ca.key, 'any'))
  const [certificate = ''] = read('tmp-ca.crt', (bytes) =>
    readCaCertificate(text(bytes), temporary, 'any'),
  ).chain
  const domain = read('rpc-domain', readDomain)
  const info = contents.has('bootstrap-info.json')
    ? read('bootstrap-info.json', (bytes) => readInfo(bytes, ca.key, root))
    : undefined
  return { root, authority, temporaryCa: { certificate, key: temporary }, domain, info }
}

/**
 * A name under which a KMS can be reached: DNS labels in ASCII, or an address of either kind.
 *
 * @throws {Error} In the words of dstack (spec dstack §9.5).
 */
export function checkDomain(domain: string): string {
  if (isIP(domain) !== 0 && !domain.includes('%')) return domain
  if (domain === '' || domain.length > MAX_DOMAIN || !/^[\x21-\x7e]+$/.test(domain)) {
    throw new Error('domain must be a non-empty ASCII DNS name of at most 253 bytes')
  }
  const isLabel = (label: string) => /^[0-9a-z](?:[0-9a-z-]{0,61}[0-9a-z])?$/i.test(label)
  if (domain.split('.').every(isLabel)) return domain
  throw new Error('domain contains an invalid DNS label')
}

/**
 * Reads the key of an authority.
 *
 * @throws {Error} When it is no P-256 key in PKCS #8.
 */
export function readCaKey(pem: string): { readonly scalar: Uint8Array; readonly key: P256Key } {
  const [der] = readPem(pem, 'PRIVATE KEY', 1)
  if (!der) throw new Error('it is no PKCS #8 key in PEM')
  // p256Key would take the scalar of another curve for one of its own.
  if (!isP256(der)) throw new Error('its key is not on P-256')
  const scalar = scalarOf(der)
  der.fill(0)
  return { scalar, key: p256Key(scalar) }
}

function isP256(der: Uint8Array): boolean {
  const key = createPrivateKey({ key: Buffer.from(der), format: 'der', type: 'pkcs8' })
  return key.asymmetricKeyDetails?.namedCurve === 'prime256v1'
}

/**
 * Reads the certificate of an authority, with those above it if there are.
 *
 * @param issuer `own`: it has to be self-signed.
 * @throws {Error} When it is another key's, or not signed by its issuer as far as that can be told.
 */
export function readCaCertificate(
  pem: string,
  { privateKey }: P256Key,
  issuer: 'any' | 'own',
): Authority {
  const authority = readAuthority(pem, privateKey)
  const [der = new Uint8Array()] = readPem(pem, 'CERTIFICATE', MAX_CHAIN)
  const own = parseCertificate(der)
  const selfIssued = sameBytes(own.issuer.der, own.subject.der)
  if (isIssuedBy(own, own) || (issuer === 'any' && !selfIssued)) return authority
  throw new Error('the certificate is damaged')
}

/** @throws {Error} When the bytes are no scalar of secp256k1. */
export function readK256(bytes: Uint8Array): Uint8Array {
  if (bytes.length !== 32) throw new Error(`it has ${bytes.length} bytes, expected 32`)
  publicKeyOf('secp256k1', bytes)
  return bytes
}

const readDomain = (bytes: Uint8Array): string => checkDomain(text(bytes).trim())

function writeInfo({ caPublicKey, k256PublicKey, attestation }: BootstrapInfo): string {
  const info: v.InferOutput<typeof Info> = {
    ca_pubkey: toHex(caPublicKey),
    k256_pubkey: toHex(k256PublicKey),
    attestation: toHex(attestation),
  }
  return `${JSON.stringify(info)}\n`
}

function readInfo(bytes: Uint8Array, ca: P256Key, { k256 }: RootKeys): BootstrapInfo {
  const { ca_pubkey, k256_pubkey, attestation } = parseJson(Info, text(bytes))
  const info = {
    caPublicKey: fromHex(ca_pubkey, 'ca_pubkey'),
    k256PublicKey: fromHex(k256_pubkey, 'k256_pubkey'),
    attestation: fromHex(attestation, 'attestation'),
  }
  if (!sameBytes(info.caPublicKey, ca.spki)) throw new Error('its ca_pubkey is of another key')
  if (!sameBytes(info.k256PublicKey, publicKeyOf('secp256k1', k256))) {
    throw new Error('its k256_pubkey is of another key')
  }
  return info
}

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)
