import { messageOf } from '../../../src/errors.ts'
import { type Certificate, isIssuedBy, parseCertificate } from '../../../src/x509/certificate.ts'
import type { Authority } from '../certificates/authority.ts'
import { isRootLink } from '../certificates/root-name.ts'
import type { VerifiedEvidence } from '../trust/verified-evidence.ts'
import { readAnswer } from './answer.ts'
import { type Channel, openChannel } from './channel.ts'
import { type KmsConnectionOptions, KmsError } from './connection.ts'
import type { Endpoint } from './endpoint.ts'
import { readTemporaryAuthority, type TemporaryAuthority } from './own-certificate.ts'
import {
  believing,
  kmsCertificateOf,
  measuredBy,
  notVerified,
  rootOf,
  type Shown,
  sameKey,
} from './server-identity.ts'
import { type StepLimits, step } from './step.ts'

/** A KMS that may be believed. */
export interface VerifiedKms {
  readonly peer: VerifiedEvidence
  /** Of the key that every connection has to end at. */
  readonly leaf: Certificate
  readonly root: Certificate
  /** Signs the certificates of its clients. */
  readonly authority: Authority
}

/**
 * Verifies a KMS on a connection of its own, on which nothing is told of this machine: first its
 * certificates and what it measured, and with that the connection; then what it answers there.
 *
 * @throws {KmsError}
 */
export async function verifyKms(
  endpoint: Endpoint,
  { roots, trust, accept, now = Date.now }: KmsConnectionOptions,
  limits: StepLimits,
): Promise<VerifiedKms> {
  const { url } = endpoint
  const channel = await step('connect to', limits, (signal) =>
    openChannel(endpoint, undefined, signal),
  )
  try {
    const certificate = await believing(url, () => kmsCertificateOf(channel.shown))
    const { leaf, shown } = certificate
    const [, ...authorities] = shown
    const pinned = roots && (await believing(url, () => rootOf(shown, roots, now())))
    const peer = await step('verify', limits, () =>
      believing(url, () => measuredBy(certificate, trust, now())),
    )
    await step('decide on', limits, () => believing(url, async () => accept?.(peer)))
    const temporary = await temporaryAuthorityOf(channel, url, limits, now)
    const root = await believing(url, () => pinned ?? rootNamed(temporary, shown, now()))
    // Where a later root than the pinned one is in use, the KMS names that.
    const above = [root, ...authorities.filter(isRootLink)]
    if (!above.some((one) => sameKey(temporary.root, one))) {
      throw notVerified(url, 'it names a root that is not its own')
    }
    // Everybody gets this key: what is signed with it says nothing of who signed it.
    if ([leaf, ...above].some((one) => sameKey(temporary.certificate, one))) {
      throw notVerified(url, 'it gives a key away by which it is known')
    }
    return { peer, leaf, root, authority: temporary.authority }
  } finally {
    channel.close()
  }
}

async function temporaryAuthorityOf(
  channel: Channel,
  url: string,
  limits: StepLimits,
  now: () => number,
): Promise<TemporaryAuthority> {
  const method = 'GetTempCaCert'
  const reply = await step('ask', limits, (signal) => channel.ask(method, '{}', signal))
  if (!reply) throw noAnswer(url, method)
  const answer = readAnswer(url, method, reply)
  try {
    return readTemporaryAuthority(answer, now())
  } catch (cause) {
    const message = `Cannot read what KMS ${url} answers to ${method}: ${messageOf(cause)}`
    throw new KmsError('KMS_MALFORMED', message, { cause })
  }
}

/** The root that the KMS itself names, where nobody else does. */
function rootNamed({ root }: TemporaryAuthority, shown: Shown, at: number): Certificate {
  if (!isIssuedBy(root, root)) throw new Error('the root that it names is not its own issuer')
  return rootOf(shown, [root], at)
}

/**
 * Verifies that the KMS is at the end of another connection, too: by its key, which the evidence
 * was about, and whether its certificates are valid now.
 *
 * @throws {KmsError} `KMS_CHANGED`, `KMS_NOT_VERIFIED`.
 */
export async function verifyAgain(
  { leaf, root }: VerifiedKms,
  { shown }: Channel,
  url: string,
  at: number,
): Promise<void> {
  await believing(url, () => {
    if (!sameKey(parseCertificate(shown[0]), leaf)) {
      const why = 'this connection ends at another key than the first one did'
      const remedy = 'somebody is in between, or the KMS has a new certificate: open another'
      throw new KmsError('KMS_CHANGED', `Cannot believe KMS ${url}: ${why}; ${remedy}`)
    }
    rootOf(kmsCertificateOf(shown).shown, [root], at)
  })
}

/** The KMS closed the connection instead of answering. */
export function noAnswer(url: string, method: string): KmsError {
  const message = `Cannot ask KMS ${url} for ${method}: it closed the connection`
  return new KmsError('KMS_UNREACHABLE', message)
}
