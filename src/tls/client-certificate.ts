import { createHash } from 'node:crypto'
import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { messageOf } from '../errors.ts'
import { type Certificate, parseCertificate } from '../x509/certificate.ts'
import { type Crl, isRevoked } from '../x509/crl.ts'
import { DerReader, TAG } from '../x509/der-read.ts'
import { type ClientTrust, sameName, subjectOf, whyNoAuthority } from './client-trust.ts'
import { isSigned } from './signed-by.ts'

/** Certificates between a client's own and an authority of `client_ca`. */
const MAX_INTERMEDIATE = 8

/** Names taken from one certificate. */
const MAX_NAMES = 100

/** The certificate a client proved to have the key of. One object for each connection. */
export interface ClientCertificate {
  /** `sha256:…` and `key_sha256:…` in hex, `common_name:…`, `uri:…`, `dns:…`, `email:…`. */
  readonly identities: readonly string[]
  /** Why it stands for nobody at this time (Unix milliseconds); undefined while it is good. */
  refusal(now: number): string | undefined
}

/**
 * The certificates of one listener's clients.
 *
 * What the runtime found in the handshake is necessary, and not enough: Deno (2.9) resumes sessions
 * that were made under authorities since replaced, and knows no revocation lists; Node calls a
 * resumed session without any certificate authorized; and a connection may outlive all of it. So
 * the path is looked at once more for each connection, again when the authorities or lists change,
 * and its dates with each request.
 */
export class ClientCertificates {
  #trust: ClientTrust
  readonly #shown = new WeakMap<Socket, Shown | 'none'>()

  constructor(trust: ClientTrust) {
    this.#trust = trust
  }

  /** Judges by other authorities and lists from now on, on connections that are open, too. */
  replace(trust: ClientTrust): void {
    this.#trust = trust
  }

  /** What the client at the other end showed; undefined without a certificate. */
  of(socket: Socket): ClientCertificate | undefined {
    let shown = this.#shown.get(socket)
    if (shown === undefined) {
      shown = show(socket as TLSSocket, () => this.#trust)
      this.#shown.set(socket, shown)
    }
    return shown === 'none' ? undefined : shown
  }
}

/** A certificate as Node shows it, with who issued it. */
interface PeerCertificate {
  readonly raw?: Uint8Array
  readonly issuerCertificate?: PeerCertificate
}

function show(socket: TLSSocket, trust: () => ClientTrust): Shown | 'none' {
  // Of a client without one, runtimes give an empty object, null or undefined.
  const peer = socket.getPeerCertificate(true) as PeerCertificate | null | undefined
  return peer?.raw ? new Shown(peer, socket.authorized === true, trust) : 'none'
}

class Shown implements ClientCertificate {
  readonly identities: readonly string[]
  readonly #chain: readonly Certificate[]
  readonly #authorized: boolean
  readonly #trust: () => ClientTrust
  /** Why it could not even be read. */
  readonly #unreadable: string | undefined
  #verdict: { readonly trust: ClientTrust; readonly path: Path } | undefined

  constructor(peer: PeerCertificate, authorized: boolean, trust: () => ClientTrust) {
    this.#authorized = authorized
    this.#trust = trust
    try {
      this.#chain = chainOf(peer)
      this.identities = identitiesOf(this.#chain[0] as Certificate)
    } catch (error) {
      this.#chain = []
      this.identities = []
      this.#unreadable = `The client certificate is not accepted: ${messageOf(error)}`
    }
  }

  refusal(now: number): string | undefined {
    const [leaf] = this.#chain
    if (leaf === undefined) return this.#unreadable
    const trust = this.#trust()
    if (this.#verdict?.trust !== trust) this.#verdict = { trust, path: walk(this.#chain, trust) }
    const why = whyNot(leaf, this.#verdict.path, this.#authorized, now)
    return why && `The client certificate "${subjectOf(leaf)}" ${why}`
  }
}

/** The way from a client's certificate to an authority. */
interface Path {
  /** Why there is none. */
  readonly broken?: string
  /** Unix milliseconds; within them all certificates and lists of the path hold. */
  readonly from: number
  readonly to: number
}

function whyNot(
  { notBefore, notAfter }: Certificate,
  { broken, from, to }: Path,
  authorized: boolean,
  now: number,
): string | undefined {
  // First what a person can tell best.
  if (now < notBefore) return 'is not valid yet'
  if (now > notAfter) return 'has expired'
  if (broken !== undefined) return broken
  if (!authorized) return 'is not made for clients, or was not valid when the connection was made'
  if (now < from || now > to) return 'is signed by an authority, or on a list, that is out of date'
  return undefined
}

function walk(chain: readonly Certificate[], trust: ClientTrust): Path {
  let from = Number.NEGATIVE_INFINITY
  let to = Number.POSITIVE_INFINITY
  const narrow = (start: number, end: number) => {
    from = Math.max(from, start)
    to = Math.min(to, end)
  }
  for (const [depth, certificate] of chain.entries()) {
    narrow(certificate.notBefore, certificate.notAfter)
    const issued = (by: Certificate) =>
      sameName(certificate.issuer, by.subject) && isSigned(certificate.signed, by.publicKey)
    const authority = trust.authorities.find(issued)
    const next = chain[depth + 1]
    const issuer = authority ?? (next && issued(next) ? next : undefined)
    if (!issuer) return { broken: 'is not signed by one of the authorities here', from, to }
    const why = whyNoAuthority(issuer)
    if (why) return { broken: `is signed by "${subjectOf(issuer)}", which ${why}`, from, to }
    if (trust.crls) {
      const lists = trust.crls.filter((crl) => isListOf(crl, issuer))
      const [first] = lists
      if (!first) return { broken: `has no revocation list of "${subjectOf(issuer)}"`, from, to }
      if (lists.some((crl) => isRevoked(crl, certificate.serial))) {
        return { broken: 'is revoked', from, to }
      }
      // Of several, one that is current is enough.
      narrow(first.thisUpdate, Math.max(...lists.map(({ nextUpdate }) => nextUpdate)))
    }
    if (!authority) continue
    narrow(authority.notBefore, authority.notAfter)
    return { from, to }
  }
  return { broken: 'is not signed by one of the authorities here', from, to }
}

function isListOf(crl: Crl, issuer: Certificate): boolean {
  return sameName(crl.issuer, issuer.subject) && isSigned(crl.signed, issuer.publicKey)
}

/** The client's own certificate and those it sent with it, each issued by the next. */
function chainOf(peer: PeerCertificate): Certificate[] {
  const chain: Certificate[] = []
  for (let at: PeerCertificate | undefined = peer; at?.raw; at = at.issuerCertificate) {
    if (chain.length > MAX_INTERMEDIATE) break
    chain.push(parseCertificate(new Uint8Array(at.raw)))
    // An authority is its own issuer.
    if (at.issuerCertificate === at) break
  }
  return chain
}

/** RFC 5280 §4.2.1.6. */
const SUBJECT_ALTERNATIVE_NAME = '2.5.29.17'
const NAME_KINDS: Readonly<Record<number, string>> = { 129: 'email', 130: 'dns', 134: 'uri' }

function identitiesOf(certificate: Certificate): string[] {
  const { der, spki, subject } = certificate
  const found = [`sha256:${sha256(der)}`, `key_sha256:${sha256(spki)}`]
  if (subject.commonName !== undefined) found.push(`common_name:${subject.commonName}`)
  const names = certificate.extension(SUBJECT_ALTERNATIVE_NAME)
  if (names === undefined) return found
  const reader = new DerReader(names, 'subject alternative name').enter(TAG.sequence)
  while (!reader.done) {
    const { tag, content } = reader.read()
    const kind = NAME_KINDS[tag]
    if (kind === undefined) continue
    if (found.length >= MAX_NAMES) throw reader.malformed('too many names')
    found.push(`${kind}:${Buffer.from(content).toString('latin1')}`)
  }
  return found
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
