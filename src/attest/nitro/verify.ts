import { createHash } from 'node:crypto'
import { parseCertificate } from '../../x509/certificate.ts'
import { nameOf } from '../../x509/path.ts'
import { EvidenceError } from '../evidence-error.ts'
import { Steps } from '../steps.ts'
import type { Verdict } from '../verdict.ts'
import { awsNitroRoot } from './aws-root.ts'
import { verifyChain } from './chain.ts'
import { checkHeaders, isCoseSignedBy } from './cose.ts'
import { type NitroDocument, parseDocument } from './document.ts'
import {
  checkDebug,
  checkFreshness,
  checkNonce,
  checkPcrs,
  checkReportData,
  imagePcrs,
  isDebug,
  type NitroPolicy,
} from './policy.ts'

/** What an attestation document proves about the enclave it comes from. */
export interface NitroClaims {
  readonly moduleId: string
  /** Unix time in milliseconds. */
  readonly timestamp: number
  readonly digest: 'SHA384'
  /** By index, 0 to 31. */
  readonly pcrs: ReadonlyMap<number, Uint8Array>
  /** Started for debugging, so that the registers of the image say nothing. */
  readonly debug: boolean
  /** SHA-256 of PCR0, PCR1 and PCR2 one after another; undefined where one is missing. */
  readonly image: Uint8Array | undefined
  readonly userData: Uint8Array | undefined
  readonly nonce: Uint8Array | undefined
  readonly publicKey: Uint8Array | undefined
}

/** How to judge a document. */
export interface VerifyDocumentOptions {
  /** DER of the anchor. Default: the root of AWS Nitro Enclaves. */
  readonly root?: Uint8Array
  /**
   * Unix time in milliseconds at which it is judged, default now; or `document`, its own time, for
   * an archive: it then says nothing about when it was made beyond what it says itself.
   */
  readonly at?: number | 'document'
  /** How old it may be, unless judged at its own time. Default one hour. */
  readonly maxAgeMs?: number
  /** How far ahead its clock may be, likewise. Default five minutes. */
  readonly maxFutureMs?: number
  /** What the enclave must have put into the user data. */
  readonly reportData?: Uint8Array
  /** What it must have put into the nonce. */
  readonly nonce?: Uint8Array
  readonly policy?: NitroPolicy
}

const HOUR_MS = 3_600_000
const FIVE_MINUTES_MS = 300_000

/**
 * Verifies an attestation document by the rules of spec nitro §3 to §5. Evidence is only ever
 * judged, whatever it holds: when it cannot even be read, the first step says so and there are no
 * claims.
 *
 * @throws {EvidenceError} When the root in the options cannot be read.
 * @throws {RangeError} When the time in the options is none.
 */
export function verifyDocument(
  bytes: Uint8Array,
  options: VerifyDocumentOptions = {},
): Verdict<NitroClaims> {
  const { at = Date.now() } = options
  if (at !== 'document' && Number.isNaN(new Date(at).getTime())) {
    throw new RangeError(`Cannot judge attestation document at ${at}: give Unix milliseconds`)
  }
  const root = parseCertificate(options.root ?? awsNitroRoot())
  const steps = new Steps()
  const document = steps.together(() =>
    steps.take('document format', () => parseDocument(bytes), describeDocument),
  )
  if (document === undefined) return { accepted: false, steps: steps.taken, claims: undefined }
  const time = at === 'document' ? document.timestamp : at
  steps.together(() => {
    steps.take(
      'algorithm',
      () => checkHeaders(document.message, 'ES384'),
      () => 'ES384',
    )
    const leaf = steps.take(
      'certificate chain',
      () => verifyChain(document, root, time),
      (leaf) => `${nameOf(leaf)} up to ${nameOf(root)}, valid at ${new Date(time).toISOString()}`,
    )
    steps.take(
      'signature',
      () => {
        if (isCoseSignedBy(document.message, leaf.publicKey, 'ES384')) return
        const message = 'Cannot accept attestation document: its signature is wrong'
        throw new EvidenceError('NITRO_SIGNATURE', message)
      },
      () => "made with the enclave's key",
    )
  })
  applyPolicy(steps, document, at, options)
  return { accepted: steps.allPassed, steps: steps.taken, claims: claimsOf(document) }
}

/** Each part stands alone, so that all reasons are seen at once. */
function applyPolicy(
  steps: Steps,
  document: NitroDocument,
  at: number | 'document',
  options: VerifyDocumentOptions,
): void {
  const { maxAgeMs = HOUR_MS, maxFutureMs = FIVE_MINUTES_MS } = options
  const { reportData, nonce, policy = {} } = options
  const apply = (name: string, check: () => void, detail: string) =>
    steps.together(() => steps.take(name, check, () => detail))
  const { timestamp } = document
  const made = new Date(timestamp).toISOString()
  if (at === 'document') steps.skip('time', `judged at its own time, ${made}, however long ago`)
  else {
    const check = () => checkFreshness(timestamp, at, { maxAgeMs, maxFutureMs })
    apply('time', check, `made at ${made}, judged at ${new Date(at).toISOString()}`)
  }
  const mode = isDebug(document) ? 'allowed' : 'off'
  apply('debug mode', () => checkDebug(document, policy), mode)
  const { pcrs } = policy
  if (pcrs === undefined) steps.skip('registers', 'none were expected')
  else apply('registers', () => checkPcrs(document, pcrs), `as expected: ${[...pcrs.keys()]}`)
  if (reportData === undefined) steps.skip('report data', 'nothing was expected')
  else apply('report data', () => checkReportData(document, reportData), 'as expected')
  if (nonce === undefined) steps.skip('nonce', 'nothing was expected')
  else apply('nonce', () => checkNonce(document, nonce), 'as expected')
}

function claimsOf(document: NitroDocument): NitroClaims {
  const { moduleId, timestamp, digest, pcrs, userData, nonce, publicKey } = document
  const image = imagePcrs(document)
  return {
    moduleId,
    timestamp,
    digest,
    pcrs,
    debug: isDebug(document),
    image: image && new Uint8Array(createHash('sha256').update(Buffer.concat(image)).digest()),
    userData,
    nonce,
    publicKey,
  }
}

const describeDocument = ({ moduleId, pcrs }: NitroDocument): string =>
  `of module ${moduleId}, ${pcrs.size} registers`
