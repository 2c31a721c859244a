import { generateKeyPairSync } from 'node:crypto'
import { isIPv4, isIPv6 } from 'node:net'
import { type Der, implicit, oid, sequence } from '../x509/der-write.ts'
import {
  basicConstraints,
  certificatePem,
  type DistinguishedName,
  extension,
  issueCertificate,
  keyUsage,
  subjectKeyIdentifier,
} from '../x509/issue.ts'

/** A certificate and its key as PEM text: `CERTIFICATE` and PKCS #8 `PRIVATE KEY`. */
export interface PemPair {
  readonly cert: string
  readonly key: string
}

const DAYS_MS = 24 * 3600 * 1000
const MAX_HOSTS = 100
const MAX_HOST_LENGTH = 253
const SUBJECT: DistinguishedName = [['O', 'cvmd']]

/**
 * A fresh self-signed pair as system-api makes it (spec system-api §10): ECDSA P-256 with SHA-256,
 * random 128-bit serial, valid for 365 days, CA:TRUE, for server authentication. The subject is
 * `O=cvmd` where the original says `O=Acme`: no client checks it, and people read it.
 *
 * @param hosts Subject alternative names: an IP literal becomes an IP name, anything else, the
 *   empty string too, a DNS name. With none the extension is left out.
 * @param now Unix time in milliseconds.
 * @throws {RangeError} For more than 100 names, one over 253 characters, or one beyond ASCII.
 */
export function createSelfSigned(hosts: readonly string[], now: number): PemPair {
  if (hosts.length > MAX_HOSTS) {
    throw new RangeError(`Cannot make a certificate for ${hosts.length} hosts: use ${MAX_HOSTS}`)
  }
  const names = hosts.map(generalName)
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const extensions = [
    keyUsage('digitalSignature', 'keyCertSign'),
    extension('2.5.29.37', false, sequence(oid('1.3.6.1.5.5.7.3.1'))), // serverAuth
    basicConstraints(true),
    subjectKeyIdentifier(publicKey),
  ]
  if (names.length > 0) extensions.push(extension('2.5.29.17', false, sequence(...names)))
  const validTo = now + 365 * DAYS_MS
  const certificate = issueCertificate(
    { subject: SUBJECT, issuer: SUBJECT, publicKey, validFrom: now, validTo, extensions },
    privateKey,
  )
  return {
    cert: certificatePem(certificate),
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  }
}

/** RFC 5280 §4.2.1.6: `[2]` a DNS name in ASCII, `[7]` an address of 4 or 16 bytes. */
function generalName(host: string): Der {
  const address = addressBytes(host)
  if (address !== undefined) return implicit(7, address)
  if (host.length > MAX_HOST_LENGTH || !/^[\x20-\x7e]*$/.test(host)) {
    throw new RangeError(
      `Cannot make a certificate for ${JSON.stringify(host)}: ` +
        `use at most ${MAX_HOST_LENGTH} ASCII characters (punycode for other scripts)`,
    )
  }
  return implicit(2, Buffer.from(host, 'latin1'))
}

/** The bytes of an IP literal, IPv4 in IPv6 as IPv4; undefined for a name or a zoned address. */
export function addressBytes(host: string): Uint8Array | undefined {
  if (isIPv4(host)) return Uint8Array.from(host.split('.').map(Number))
  if (!isIPv6(host) || host.includes('%')) return undefined
  // The URL parser writes the canonical form: lower-case hex groups, no dotted tail.
  const [head = '', tail] = new URL(`http://[${host}]`).hostname.slice(1, -1).split('::')
  const before = head === '' ? [] : head.split(':')
  const after = tail === undefined || tail === '' ? [] : tail.split(':')
  const zeros = new Array<string>(8 - before.length - after.length).fill('0')
  const bytes = Buffer.alloc(16)
  for (const [i, group] of [...before, ...zeros, ...after].entries()) {
    bytes.writeUInt16BE(Number.parseInt(group, 16), i * 2)
  }
  const mapped = bytes.subarray(0, 12).equals(MAPPED)
  return mapped ? bytes.subarray(12) : bytes
}

const MAPPED = Buffer.from('00000000000000000000ffff', 'hex')
