import { createHash, X509Certificate } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { messageOf } from '../errors.ts'
import type { Certificate } from '../x509/certificate.ts'
import { type Crl, parseCrl } from '../x509/crl.ts'
import { certificatePem } from '../x509/issue.ts'
import { parsePemChain, readPem } from '../x509/pem.ts'
import { isSigned } from './signed-by.ts'

/** Certificates in a `client_ca` file. */
export const MAX_AUTHORITIES = 64

/** Lists in a `client_crl` file. */
const MAX_CRLS = MAX_AUTHORITIES

const MAX_FILE_BYTES = 1024 * 1024

/** Who may have signed the certificate of a client, and which of them are revoked. */
export interface ClientTrust {
  /** The authorities alone, as the runtime takes them. */
  readonly pem: string
  readonly authorities: readonly Certificate[]
  /** Undefined: nothing is said about revocation; else each issuer needs a list. */
  readonly crls: readonly Crl[] | undefined
  /** Equal for equal files. */
  readonly digest: string
}

/** The files that say whom to trust, as PEM. */
export interface ClientTrustFiles {
  readonly client_ca: string
  readonly client_crl?: string | undefined
}

/**
 * Reads whom to trust.
 *
 * @throws {ClientTrustError} Naming the key and file at fault.
 */
export function loadClientTrust({ client_ca, client_crl }: ClientTrustFiles): ClientTrust {
  const digest = createHash('sha256')
  const authorities = attempt('client_ca', client_ca, (text) => {
    digest.update(`${text}\0`)
    return readAuthorities(text)
  })
  const crls =
    client_crl === undefined
      ? undefined
      : attempt('client_crl', client_crl, (text) => {
          digest.update(text)
          return readCrls(text, authorities)
        })
  const pem = authorities.map(({ der }) => certificatePem(der)).join('')
  return { pem, authorities, crls, digest: digest.digest('hex') }
}

/** A file of authorities or revocation lists that cannot be used. */
export class ClientTrustError extends Error {
  override readonly name = 'ClientTrustError'
  /** The key that names the file. */
  readonly key: 'client_ca' | 'client_crl'

  constructor(key: 'client_ca' | 'client_crl', message: string, options?: ErrorOptions) {
    super(message, options)
    this.key = key
  }
}

function attempt<T>(key: ClientTrustError['key'], path: string, read: (text: string) => T): T {
  try {
    const found = statSync(path)
    if (!found.isFile() || found.size > MAX_FILE_BYTES) {
      throw new Error(`it is not a file of at most ${MAX_FILE_BYTES} bytes`)
    }
    return read(readFileSync(path, 'utf8'))
  } catch (cause) {
    const what = key === 'client_ca' ? 'client authorities' : 'revocation lists'
    throw new ClientTrustError(key, `Cannot use ${what} "${path}": ${messageOf(cause)}`, { cause })
  }
}

function readAuthorities(text: string): readonly Certificate[] {
  const authorities = parsePemChain(text, MAX_AUTHORITIES)
  for (const certificate of authorities) {
    const why = whyNoAuthority(certificate)
    if (why) throw new Error(`"${subjectOf(certificate)}" ${why}`)
  }
  return authorities
}

/** Why a certificate may not issue others; undefined where it may. */
export function whyNoAuthority({ isCa, keyUsage }: Certificate): string | undefined {
  if (!isCa) return 'is no certificate of an authority'
  if (keyUsage && !keyUsage.has('keyCertSign')) return 'may not sign certificates'
  return undefined
}

function readCrls(text: string, authorities: readonly Certificate[]): readonly Crl[] {
  const blocks = readPem(text, 'X509 CRL', MAX_CRLS)
  if (blocks.length === 0) throw new Error('there is no X509 CRL block')
  return blocks.map((der) => {
    const crl = parseCrl(der)
    const named = authorities.filter((one) => sameName(crl.issuer, one.subject))
    // A list of somebody below an authority is looked at when he shows his own certificate.
    if (named.length > 0 && !named.some((one) => isSigned(crl.signed, one.publicKey))) {
      throw new Error(`a list of "${crl.issuer.commonName ?? ''}" is not signed by it`)
    }
    return crl
  })
}

/** Whether two distinguished names are the same, byte for byte. */
export function sameName(a: { readonly der: Uint8Array }, b: { readonly der: Uint8Array }) {
  return Buffer.compare(a.der, b.der) === 0
}

/** A subject on one line, for messages. */
export function subjectOf({ der, subject }: Certificate): string {
  const text = subject.commonName ?? new X509Certificate(der).subject
  return text.slice(0, 100).replace(/[^ -~]/g, '?')
}
