import { ccelEntries, isCcel } from '../../attest/ccel.ts'
import { configIdV1 } from '../../attest/config-id.ts'
import { type EventLogEntry, MAX_VALUES, parseEventLog } from '../../attest/event-log.ts'
import { sameBytes, toHex } from '../../attest/hex.ts'
import { type AppInfo, appInfo } from '../../attest/identity.ts'
import { hasMoreValues } from '../../attest/json-values.ts'
import {
  compareRegisters,
  measuredDigest,
  misstatedEntry,
  type RegisterResult,
} from '../../attest/replay.ts'
import { digestOf, isRuntimeEntry } from '../../attest/runtime-event.ts'
import type { Quote } from '../../attest/tdx/quote.ts'
import { verifyQuote } from '../../attest/tdx/verify.ts'
import type { Step } from '../../attest/verdict.ts'
import type { SignedEvidence } from './evidence.ts'
import { unreadable } from './input.ts'
import type { Judged, JudgeOptions } from './judge.ts'
import { attempt, failed, padded, passed, sameHex, skipped } from './steps.ts'
import { tdxClaims } from './tdx-claims.ts'

const SIGNATURES_ALONE =
  "WITHOUT COLLATERAL: the platform may be revoked or outdated, and the quoting enclave anybody's"

/** Judges a quote, the registers stated beside it, and the event log that came with it. */
export function judgeTdx(evidence: SignedEvidence, options: JudgeOptions): Judged {
  const { collateral, root, at, reportData, allowDebug, acceptedStatuses } = options
  const { withoutCollateral = false } = options
  if (collateral && withoutCollateral) {
    throw unreadable('collateral and --without-collateral exclude each other')
  }
  if (options.nonce && !evidence.attestedLog && !evidence.isBoundToNonce) {
    throw unreadable('a quote carries no nonce by itself: use --report-data')
  }
  if (reportData && reportData.length > 64) {
    throw unreadable(`report data of a quote has at most 64 bytes, not ${reportData.length}`)
  }
  const { accepted, steps, claims } = verifyQuote(evidence.bytes, {
    at,
    collateral,
    collateralRequired: !withoutCollateral,
    policy: { allowDebug, ...(acceptedStatuses && { acceptedStatuses }) },
    ...(root && { root }),
    ...(reportData && { reportData: padded(reportData) }),
  })
  if (!claims) return { accepted, steps, claims: undefined, reportData: undefined }
  const log = judgeLog(evidence, claims.quote, options)
  return {
    accepted,
    steps: [...steps, ...statedRegisters(evidence, claims.quote), ...log.steps],
    claims: tdxClaims(claims, log.info),
    reportData: claims.quote.reportData,
    ...(withoutCollateral && { caveat: SIGNATURES_ALONE }),
  }
}

/** The registers that a GetQuote answer repeats beside the quote. */
function statedRegisters({ answer }: SignedEvidence, { rtmr }: Quote): readonly Step[] {
  const names = [0, 1, 2, 3].filter((index) => answer?.[`rtmr${index}`] !== undefined)
  if (names.length === 0) return []
  const wrong = names.find((index) => !sameHex(answer?.[`rtmr${index}`], rtmr[index as 0]))
  if (wrong === undefined) return [passed('stated registers', 'the answer says the same')]
  return [
    failed('stated registers', 'REGISTER_STATED', `rtmr${wrong} of the answer is not the quote's`),
  ]
}

interface JudgedLog {
  readonly steps: readonly Step[]
  /** Undefined when no log says it. */
  readonly info?: AppInfo
}

function judgeLog(evidence: SignedEvidence, quote: Quote, { log }: JudgeOptions): JudgedLog {
  // With an attested log, `--log` is cvmd's own event log.
  const given = evidence.attestedLog ? undefined : log
  let info: AppInfo | undefined
  const steps = attempt('event log', () => {
    const { entries, covers } = readLog(evidence, given)
    if (!entries) return evidence.attestedLog ? [] : [skipped('event log', 'none was given')]
    const results = compareRegisters(entries, quote.rtmr, covers)
    const replayed = describeReplay(results)
    // Who the application is stands in RTMR3.
    if (results[3]?.state !== 'match') return [replayed]
    info = appInfo(entries, quote)
    return [
      replayed,
      ...statedDigests(entries),
      ...statedEvents(evidence, entries),
      ...configurationId(quote, info),
    ]
  })
  return info === undefined ? { steps } : { steps, info }
}

interface ReadLog {
  readonly entries?: readonly EventLogEntry[]
  /** Registers the log is complete for. */
  readonly covers?: readonly number[]
}

/** @throws {EvidenceError} As the readers. */
function readLog({ answer, container }: SignedEvidence, given: Uint8Array | undefined): ReadLog {
  if (given && isCcel(given)) {
    const entries = ccelEntries(given)
    // Software that measures into RTMR3 writes this log only on some machines.
    const hasRuntime = entries.some(({ imr }) => imr === 3)
    return { entries, covers: hasRuntime ? [0, 1, 2, 3] : [0, 1, 2] }
  }
  if (given) return { entries: parseEventLog(eventLogOf(Buffer.from(given).toString('utf8'))) }
  if (container?.platform.kind === 'tdx') return { entries: container.platform.eventLog }
  const stated = answer?.event_log ?? ''
  return stated === '' ? {} : { entries: parseEventLog(stated) }
}

/** The log in a file: itself, or the `event_log` of an answer. */
function eventLogOf(text: string): unknown {
  if (!text.trimStart().startsWith('{') || hasMoreValues(text, MAX_VALUES)) return text
  try {
    return (JSON.parse(text) as { event_log?: unknown }).event_log
  } catch {
    return text
  }
}

function describeReplay(results: readonly RegisterResult[]): Step {
  const wrong = results.find(({ state }) => state === 'mismatch')
  if (wrong) {
    const found = toHex(wrong.replayed)
    const detail = `RTMR${wrong.register} replays to ${found}, which is not the quote's`
    return failed('event log', 'EVENT_LOG_MISMATCH', detail)
  }
  const list = (state: string) =>
    results.filter((result) => result.state === state).map(({ register }) => `RTMR${register}`)
  const unknown = list('unknown')
  const rest = unknown.length > 0 ? `; it does not cover ${unknown.join(', ')}` : ''
  return passed('event log', `replays to ${list('match').join(', ')}${rest}`)
}

/** What the log says of its runtime events beside what was measured. */
function statedDigests(entries: readonly EventLogEntry[]): readonly Step[] {
  const wrong = misstatedEntry(entries)
  if (!wrong) return []
  const name = JSON.stringify(wrong.event.slice(0, 40))
  const detail = `the digest stated for event ${name} is not the one of its content`
  return [failed('event digests', 'EVENT_DIGEST_STATED', detail)]
}

/** The runtime events that a container lists a second time, beside its log. */
function statedEvents(
  { container }: SignedEvidence,
  entries: readonly EventLogEntry[],
): readonly Step[] {
  const listed = container?.stack.runtimeEvents ?? []
  if (listed.length === 0) return []
  const digests = listed.map((event) => toHex(digestOf(event)))
  const measured = entries.filter(isRuntimeEntry).map((entry) => toHex(measuredDigest(entry)))
  if (digests.join() === measured.join()) return [passed('stated events', 'those of the log')]
  return [failed('stated events', 'EVENTS_STATED', 'the container lists other events than its log')]
}

/** Whether MRCONFIGID, which the host set at launch, names the application that was measured. */
function configurationId({ mrConfigId }: Quote, { composeHash }: AppInfo): readonly Step[] {
  // Version 2 hashes a form of the key provider's id that no event says.
  if (mrConfigId[0] !== 1 || !composeHash) return []
  if (sameBytes(mrConfigId, configIdV1(composeHash))) {
    return [passed('configuration id', 'names the measured compose hash')]
  }
  const detail = `MRCONFIGID is ${toHex(mrConfigId)}, the measured compose hash ${toHex(composeHash)}`
  return [failed('configuration id', 'CONFIG_ID_MISMATCH', detail)]
}
