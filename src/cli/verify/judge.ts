import { toHex } from '../../attest/hex.ts'
import { replay } from '../../attest/replay.ts'
import type { Collateral } from '../../attest/tdx/collateral.ts'
import type { TcbStatus } from '../../attest/tdx/tcb-info.ts'
import type { Step, Verdict } from '../../attest/verdict.ts'
import { bindings } from './bindings.ts'
import type { Evidence, SignedEvidence, UnsignedEvidence } from './evidence.ts'
import { judgeNitro } from './nitro.ts'
import { failed } from './steps.ts'
import { judgeTdx } from './tdx.ts'
import { measurements } from './tdx-claims.ts'

/** What the command line says about how to judge. */
export interface JudgeOptions {
  readonly collateral?: Collateral | undefined
  /** DER. */
  readonly root?: Uint8Array | undefined
  /** Unix time in milliseconds. */
  readonly at: number
  /** Of a quote, without the zeros after them, or the user data of a document. */
  readonly reportData?: Uint8Array | undefined
  readonly nonce?: Uint8Array | undefined
  /** The file of `--log`. */
  readonly log?: Uint8Array | undefined
  /** Of a quote. Default: `UpToDate` alone. */
  readonly acceptedStatuses?: readonly TcbStatus[] | undefined
  /** Judges a quote by its signatures alone. */
  readonly withoutCollateral?: boolean | undefined
  readonly allowDebug: boolean
}

/** What is said of evidence to a person or a program, bytes as hex. */
export type Claims = Readonly<Record<string, string | boolean | readonly string[]>>

/** A verdict on what a file holds. */
export interface Judgement extends Verdict<Claims> {
  /** What an acceptance does not say although it usually would. */
  readonly caveat?: string | undefined
}

/** What one platform's verifier found. */
export interface Judged {
  readonly accepted: boolean
  readonly steps: readonly Step[]
  /** Undefined when the evidence could not be read. */
  readonly claims: Claims | undefined
  /** Report data or user data; undefined when the evidence could not be read. */
  readonly reportData: Uint8Array | undefined
  /** See {@link Judgement}. */
  readonly caveat?: string
}

/**
 * Judges evidence: first by itself, then that the answer around it says the same, then what the
 * log adds.
 *
 * @throws {CommandFailed} With status 2 when an option does not fit the evidence.
 * @throws {EvidenceError} When an event log that is to be judged by itself does not replay, or the
 *   root is no certificate.
 */
export function judge(evidence: Evidence, options: JudgeOptions): Judgement {
  if (!isSigned(evidence)) return refuse(evidence)
  const judged =
    evidence.platform === 'tdx' ? judgeTdx(evidence, options) : judgeNitro(evidence, options)
  const { claims, reportData, caveat } = judged
  const steps = [
    ...judged.steps,
    ...(claims && reportData ? bindings(evidence, claims, reportData, options) : []),
  ]
  const accepted = judged.accepted && steps.every(({ outcome }) => outcome !== 'failed')
  return { accepted, steps, claims, ...(accepted && caveat !== undefined && { caveat }) }
}

function isSigned(evidence: Evidence): evidence is SignedEvidence {
  return evidence.platform === 'tdx' || evidence.platform === 'nitro'
}

/** Says why something that looks like evidence proves nothing far away, and what is in it. */
function refuse(evidence: UnsignedEvidence): Verdict<Claims> {
  if (evidence.platform === 'tdreport') {
    const why = 'the MAC of a TDREPORT can only be checked by the CPU that made it: verify a quote'
    const claims = measurements(evidence.report)
    return { accepted: false, steps: [failed('signature', 'TDREPORT_LOCAL', why)], claims }
  }
  const why = 'an event log is not signed: verify a quote, and give the log with --log'
  const steps = [failed('signature', 'EVENT_LOG_UNSIGNED', why)]
  const replayed = replay(evidence.entries).map((value, index) => [`rtmr${index}`, toHex(value)])
  return { accepted: false, steps, claims: Object.fromEntries(replayed) }
}
