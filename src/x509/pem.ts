import { EvidenceError } from '../attest/evidence-error.ts'
import { type Certificate, MAX_CERTIFICATE_BYTES, parseCertificate } from './certificate.ts'

/** Longest chain that is read. */
export const MAX_CHAIN = 10
const MAX_PEM_CHARACTERS = MAX_CHAIN * 2 * MAX_CERTIFICATE_BYTES

/**
 * The certificates of a PEM text (RFC 7468), at least one, in its order. What stands between the
 * blocks, such as the NUL that ends the chain inside a quote, is ignored.
 *
 * @param most More certificates than this are an error. Default: 10.
 * @throws {EvidenceError} `PEM_MALFORMED`, `PEM_TOO_LONG`, or what `parseCertificate` throws.
 */
export function parsePemChain(text: string, most = MAX_CHAIN): [Certificate, ...Certificate[]] {
  if (text.length > MAX_PEM_CHARACTERS) {
    throw new EvidenceError(
      'PEM_TOO_LONG',
      `Cannot read certificates: ${text.length} characters, at most ${MAX_PEM_CHARACTERS} are read`,
    )
  }
  const [first, ...others] = readPem(text, 'CERTIFICATE', most)
  if (first === undefined) throw malformed('there is no CERTIFICATE block')
  return [parseCertificate(first), ...others.map(parseCertificate)]
}

/**
 * The bytes in the blocks of one label.
 *
 * @param label Such as `CERTIFICATE` or `X509 CRL`.
 * @param most More blocks than this are an error.
 * @throws {EvidenceError} `PEM_MALFORMED`.
 */
export function readPem(text: string, label: string, most: number): Uint8Array[] {
  const begin = `-----BEGIN ${label}-----`
  const end = `-----END ${label}-----`
  const blocks: Uint8Array[] = []
  let at = text.indexOf(begin)
  while (at >= 0) {
    if (blocks.length === most) throw malformed(`there are more than ${most} ${label} blocks`)
    const from = at + begin.length
    const to = text.indexOf(end, from)
    if (to < 0) throw malformed(`a ${label} block has no end`)
    blocks.push(decodeBase64(text.slice(from, to).replace(/[\r\n\t ]+/g, '')))
    at = text.indexOf(begin, to + end.length)
  }
  return blocks
}

function decodeBase64(text: string): Uint8Array {
  const bytes = Buffer.from(text, 'base64')
  // Node skips what it does not know; only the one true spelling comes back the same.
  if (bytes.toString('base64') !== text) throw malformed('its base64 is damaged')
  return bytes
}

function malformed(why: string): EvidenceError {
  return new EvidenceError('PEM_MALFORMED', `Cannot read PEM text: ${why}`)
}
