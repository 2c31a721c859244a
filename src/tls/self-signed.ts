import { createHash, generateKeyPairSync, randomBytes, sign } from 'node:crypto'
import { isIPv4, isIPv6 } from 'node:net'
import {
  bitString,
  type Der,
  explicit,
  implicit,
  integer,
  octetString,
  oid,
  sequence,
  set,
  TRUE,
  time,
  utf8String,
} from './der.ts'

/** A certificate and its key as PEM text: `CERTIFICATE` and PKCS #8 `PRIVATE KEY`. */
export interface PemPair {
  readonly cert: string
  readonly key: string
}

const DAYS_MS = 24 * 3600 * 1000
const MAX_HOSTS = 100
const MAX_HOST_LENGTH = 253

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
  const spki = publicKey.export({ type: 'spki', format: 'der' })
  const subject = sequence(set(sequence(oid('2.5.4.10'), utf8String('cvmd'))))
  const signature = sequence(oid('1.2.840.10045.4.3.2')) // ecdsa-with-SHA256
  const body = sequence(
    explicit(0, integer(Uint8Array.of(2))), // version 3
    integer(randomBytes(16)),
    signature,
    subject,
    sequence(time(now), time(now + 365 * DAYS_MS)),
    subject,
    spki,
    explicit(3, sequence(...extensions(spki, names))),
  )
  const der = sequence(body, signature, bitString(sign('sha256', body, privateKey)))
  return { cert: pem(der), key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() }
}

function extensions(spki: Uint8Array, names: readonly Der[]): Der[] {
  // The point is the last 65 bytes of a P-256 key; its SHA-1 is the identifier of RFC 5280 §4.2.1.2.
  const keyId = createHash('sha1').update(spki.subarray(-65)).digest()
  const list = [
    extension('2.5.29.15', true, bitString(Uint8Array.of(0b1000_0100), 2)), // signature, certSign
    extension('2.5.29.37', false, sequence(oid('1.3.6.1.5.5.7.3.1'))), // serverAuth
    extension('2.5.29.19', true, sequence(TRUE)), // CA:TRUE
    extension('2.5.29.14', false, octetString(keyId)),
  ]
  if (names.length > 0) list.push(extension('2.5.29.17', false, sequence(...names)))
  return list
}

function extension(id: string, critical: boolean, value: Der): Der {
  return sequence(oid(id), ...(critical ? [TRUE] : []), octetString(value))
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

function pem(der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`
}
