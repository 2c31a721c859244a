import { attestedLogReportData } from '../../attest/attested-log.ts'
import { checkExportedLog, parseExportedLog } from '../../attest/exported-log.ts'
import { fromHex, sameBytes, toHex } from '../../attest/hex.ts'
import { attestationReportData } from '../../attest/report-binding.ts'
import type { Step } from '../../attest/verdict.ts'
import type { SignedEvidence } from './evidence.ts'
import type { Claims, JudgeOptions } from './judge.ts'
import { attempt, failed, padded, passed, sameHex, skipped } from './steps.ts'

/**
 * Checks that what stands around evidence says the same as the evidence, and that the evidence was
 * made for it: the caller's nonce, the head of an event log.
 *
 * @param reportData Out of the evidence: 64 bytes on TDX, the user data on Nitro.
 */
export function bindings(
  evidence: SignedEvidence,
  claims: Claims,
  reportData: Uint8Array,
  options: JudgeOptions,
): readonly Step[] {
  return [
    ...statedPlatform(evidence),
    ...statedReportData(evidence, reportData),
    ...statedQuote(evidence),
    ...statedIds(evidence, claims),
    ...boundToNonce(evidence, reportData, options),
    ...boundToLog(evidence, reportData, options),
  ]
}

/** An answer must not speak of another platform, nor show evidence of two. */
function statedPlatform({ platform, answer }: SignedEvidence): readonly Step[] {
  const other = platform === 'tdx' ? 'document' : 'quote'
  const isOther = (answer?.platform ?? platform) !== platform
  if (!isOther && answer?.[other] === undefined) return []
  const why = isOther ? 'names another platform' : `has a ${other} beside it`
  return [
    failed(
      'stated platform',
      'PLATFORM_STATED',
      `the evidence is of ${platform}, the answer ${why}`,
    ),
  ]
}

function statedReportData(
  { answer, container }: SignedEvidence,
  reportData: Uint8Array,
): readonly Step[] {
  const name = 'stated report data'
  const compare = (said: Uint8Array, who: string) => {
    if (sameBytes(said, reportData) || sameBytes(padded(said), reportData)) {
      return passed(name, `${who} says the same`)
    }
    const detail = `${who} says ${toHex(said)}, the evidence ${toHex(reportData)}`
    return failed(name, 'REPORT_DATA_STATED', detail)
  }
  if (container) return [compare(container.stack.reportData, 'the container')]
  if (answer?.report_data === undefined) return []
  const said = textOf(answer.report_data)
  return attempt(name, () => [compare(fromHex(said, 'report_data'), 'the answer')])
}

/** The second coding of the quote in a GetQuote answer. */
function statedQuote({ answer, bytes }: SignedEvidence): readonly Step[] {
  if (answer?.quote_hex === undefined) return []
  if (sameHex(answer.quote_hex, bytes)) return [passed('quote_hex', 'the same quote')]
  return [failed('quote_hex', 'QUOTE_STATED', 'quote_hex of the answer is another quote')]
}

/** The ids an answer states beside what was measured. */
function statedIds({ answer }: SignedEvidence, claims: Claims): readonly Step[] {
  const name = 'stated ids'
  const given = ['app_id', 'compose_hash', 'instance_id'].filter((id) => answer?.[id])
  if (given.length === 0) return []
  const wrong = given.find((id) => claims[id] !== undefined && claims[id] !== answer?.[id])
  if (wrong) return [failed(name, 'ID_STATED', `${wrong} of the answer is not the measured one`)]
  const unmeasured = given.filter((id) => claims[id] === undefined)
  if (unmeasured.length === 0) return [passed(name, 'the measured ones')]
  return [skipped(name, `${unmeasured.join(', ')}: the answer's word, no log proves it`)]
}

function boundToNonce(
  { answer, isBoundToNonce }: SignedEvidence,
  reportData: Uint8Array,
  options: JudgeOptions,
): readonly Step[] {
  if (!isBoundToNonce) return []
  return attempt('binding', () => {
    const nonce = fromHex(textOf(answer?.nonce ?? ''), 'nonce')
    const expected = attestationReportData(nonce)
    return [bound(expected, reportData, 'the nonce'), fresh(nonce, options.nonce)]
  })
}

function boundToLog(
  { attestedLog }: SignedEvidence,
  reportData: Uint8Array,
  { log, nonce: wanted }: JudgeOptions,
): readonly Step[] {
  if (!attestedLog) return []
  const { nonce, seq } = attestedLog
  const expected = attestedLogReportData(nonce, attestedLog)
  const steps = [
    bound(expected, reportData, `the nonce, event ${seq} and its hash`),
    fresh(nonce, wanted),
  ]
  if (!log) return [...steps, skipped('downloaded log', 'give it with --log')]
  const check = () => [
    checkExportedLog(parseExportedLog(Buffer.from(log).toString('utf8')), attestedLog),
  ]
  return [...steps, ...attempt('downloaded log', check)]
}

/** A member that should be text. Anything else could be nested too deeply to be written out. */
function textOf(value: unknown): string {
  return typeof value === 'string' ? value : 'no text'
}

function bound(expected: Uint8Array, found: Uint8Array, to: string): Step {
  if (sameBytes(expected, found)) return passed('binding', `made for ${to}`)
  const detail = `the report data is not the hash of ${to}, which is ${toHex(expected)}`
  return failed('binding', 'BINDING_MISMATCH', detail)
}

function fresh(nonce: Uint8Array, wanted: Uint8Array | undefined): Step {
  if (wanted === undefined) {
    return skipped('freshness', 'give your nonce with --nonce, else this may be an old answer')
  }
  if (sameBytes(nonce, wanted)) return passed('freshness', 'made for your nonce')
  const detail = `the answer is for nonce ${toHex(nonce)}, not ${toHex(wanted)}`
  return failed('freshness', 'NONCE_MISMATCH', detail)
}
