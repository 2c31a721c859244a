import { createHash } from 'node:crypto'
import { gunzipSync, gzipSync } from 'node:zlib'
import type { Certificate } from '../x509/certificate.ts'
import { DerReader, TAG } from '../x509/der-read.ts'
import { type Der, octetString } from '../x509/der-write.ts'
import { extension } from '../x509/issue.ts'
import {
  type Container,
  type ContainerPlatform,
  type ContainerStack,
  readContainer,
  stripContainer,
  writeContainer,
} from './container.ts'
import { type EventLogEntry, parseEventLog } from './event-log.ts'
import { EvidenceError } from './evidence-error.ts'
import { sameBytes } from './hex.ts'
import { parseDocument } from './nitro/document.ts'
import { type CertifiedApp, readCertifiedApp, writeCertifiedApp } from './ra-tls-app.ts'
import { parseQuote } from './tdx/quote.ts'

/**
 * Certificates that carry evidence about their key (spec dstack §8). Each extension is an octet
 * string around its content, so there is one within the one that every extension has.
 */
export const RA_TLS_OID = {
  /** The older form: a TDX quote alone. */
  quote: '1.3.6.1.4.1.62397.1.1',
  /** Beside it, the event log. */
  eventLog: '1.3.6.1.4.1.62397.1.2',
  appId: '1.3.6.1.4.1.62397.1.3',
  usage: '1.3.6.1.4.1.62397.1.4',
  attestation: '1.3.6.1.4.1.62397.1.8',
  appInfo: '1.3.6.1.4.1.62397.1.9',
} as const

/** What a certificate is for beside TLS, in the words of dstack. */
export type RaTlsUsage = 'kms:rpc' | 'app:ca' | 'app:custom'

/** Of the event log in the older form, once it is inflated. */
export const MAX_EVENT_LOG_BYTES = 16 * 1024

/** Goes before a compressed event log. */
const GZIP_MARK = Buffer.from('ELGZv1')

/** What is written into a certificate; what is left out has no extension. */
export interface RaTlsFields {
  /** 20 bytes. */
  readonly appId?: Uint8Array | undefined
  readonly usage?: RaTlsUsage | undefined
  /** Evidence over {@link raTlsReportData} of the certificate's key; it is stripped here. */
  readonly attestation?: Container | undefined
  readonly appInfo?: CertifiedApp | undefined
}

/** Evidence found in a certificate. Nothing about it is verified. */
export interface RaTlsEvidence {
  readonly platform: ContainerPlatform
  /** What software says beside it; the older form has none. */
  readonly stack: ContainerStack | undefined
  /** 64 bytes, as the quote or the document itself has them. */
  readonly reportData: Uint8Array
  /** Whether they are those of the certificate's key: if not, it is evidence about another one. */
  readonly bound: boolean
}

/**
 * What a certificate says about its owner. Only the evidence can be verified; the rest is as good
 * as whoever signed the certificate.
 */
export interface RaTls {
  readonly appId: Uint8Array | undefined
  readonly usage: string | undefined
  readonly appInfo: CertifiedApp | undefined
  readonly evidence: RaTlsEvidence | undefined
}

/**
 * The report data that bind evidence to a key: `SHA512("ratls-cert:" || SPKI)`, 64 bytes.
 *
 * @param spki SubjectPublicKeyInfo, DER.
 */
export function raTlsReportData(spki: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha512').update('ratls-cert:').update(spki).digest())
}

/**
 * The extensions of a certificate.
 *
 * @param form `quote` writes the older form where there is a quote, for verifiers that read no
 *   other; a Nitro document exists in the newer one only.
 * @throws {EvidenceError} `RATLS_EVENT_LOG` when the log is longer than the older form allows.
 */
export function raTlsExtensions(
  { appId, usage, attestation, appInfo }: RaTlsFields,
  form: 'attestation' | 'quote' = 'attestation',
): Der[] {
  const contents: (readonly [id: string, content: Uint8Array | undefined])[] = [
    [RA_TLS_OID.appId, appId],
    [RA_TLS_OID.appInfo, appInfo && writeCertifiedApp(appInfo)],
    [RA_TLS_OID.usage, usage === undefined ? undefined : Buffer.from(usage)],
    ...(attestation ? evidenceContents(stripContainer(attestation), form) : []),
  ]
  return contents.flatMap(([id, content]) =>
    content === undefined ? [] : [extension(id, false, octetString(content))],
  )
}

/**
 * Reads what a certificate says about its owner.
 *
 * @throws {EvidenceError} `RATLS_EXTENSION`, `RATLS_EVENT_LOG`, or what the reader of the evidence
 *   throws.
 */
export function readRaTls(certificate: Certificate): RaTls {
  const usage = contentOf(certificate, 'usage')
  const appInfo = contentOf(certificate, 'appInfo')
  return {
    appId: contentOf(certificate, 'appId'),
    usage: usage && Buffer.from(usage).toString('utf8'),
    appInfo: appInfo && readCertifiedApp(appInfo),
    evidence: readEvidence(certificate),
  }
}

/**
 * The 64 bytes that evidence was made over, from the evidence itself.
 *
 * @throws {EvidenceError} When it cannot be read.
 */
export function evidenceReportData(platform: ContainerPlatform): Uint8Array {
  if (platform.kind === 'tdx') return parseQuote(platform.quote).reportData
  return parseDocument(platform.document).userData ?? new Uint8Array()
}

function evidenceContents(
  container: Container,
  form: 'attestation' | 'quote',
): (readonly [id: string, content: Uint8Array])[] {
  const { platform } = container
  if (form === 'attestation' || platform.kind !== 'tdx') {
    return [[RA_TLS_OID.attestation, writeContainer(container)]]
  }
  return [
    [RA_TLS_OID.quote, platform.quote],
    [RA_TLS_OID.eventLog, compressed(platform.eventLog)],
  ]
}

function readEvidence(certificate: Certificate): RaTlsEvidence | undefined {
  const attestation = contentOf(certificate, 'attestation')
  const quote = contentOf(certificate, 'quote')
  if (attestation) {
    const { platform, stack } = readContainer(attestation)
    return judged(certificate, platform, stack)
  }
  if (!quote) return undefined
  const log = contentOf(certificate, 'eventLog')
  const eventLog = log ? parseEventLog(inflated(log).toString('utf8')) : []
  return judged(certificate, { kind: 'tdx', quote, eventLog }, undefined)
}

function judged(
  { spki }: Certificate,
  platform: ContainerPlatform,
  stack: ContainerStack | undefined,
): RaTlsEvidence {
  const reportData = evidenceReportData(platform)
  return { platform, stack, reportData, bound: sameBytes(reportData, raTlsReportData(spki)) }
}

function contentOf(
  certificate: Certificate,
  name: keyof typeof RA_TLS_OID,
): Uint8Array | undefined {
  const value = certificate.extension(RA_TLS_OID[name])
  if (value === undefined) return undefined
  try {
    const reader = new DerReader(value, `extension ${RA_TLS_OID[name]}`)
    const { content } = reader.read(TAG.octetString)
    reader.end()
    return content
  } catch (cause) {
    throw new EvidenceError('RATLS_EXTENSION', (cause as Error).message, { cause })
  }
}

function compressed(entries: readonly EventLogEntry[]): Uint8Array {
  const json = Buffer.from(JSON.stringify(entries))
  if (json.length > MAX_EVENT_LOG_BYTES) throw tooLong(`it has ${json.length} bytes`)
  return Buffer.concat([GZIP_MARK, gzipSync(json)])
}

function inflated(bytes: Uint8Array): Buffer {
  const isCompressed = sameBytes(bytes.subarray(0, GZIP_MARK.length), GZIP_MARK)
  if (!isCompressed) {
    if (bytes.length > MAX_EVENT_LOG_BYTES) throw tooLong(`it has ${bytes.length} bytes`)
    return Buffer.from(bytes)
  }
  try {
    const gzip = bytes.subarray(GZIP_MARK.length)
    return gunzipSync(gzip, { maxOutputLength: MAX_EVENT_LOG_BYTES })
  } catch (cause) {
    throw tooLong('it is damaged or inflates to more', cause)
  }
}

function tooLong(why: string, cause?: unknown): EvidenceError {
  return new EvidenceError(
    'RATLS_EVENT_LOG',
    `Cannot use the event log of a certificate: ${why}, at most ${MAX_EVENT_LOG_BYTES} are allowed`,
    { cause },
  )
}
