import { EvidenceError } from '../evidence-error.ts'
import { sameBytes, toHex } from '../hex.ts'
import type { TcbStatus } from './tcb-info.ts'
import type { Tcb } from './tcb-status.ts'
import { decodeTdAttributes } from './td-attributes.ts'
import type { TdBody } from './td-body.ts'

/** What the relying party demands beyond genuine signatures (spec tdx §8 step 14). */
export interface TdxPolicy {
  /** Default: `UpToDate` alone. `Revoked` is never accepted. */
  readonly acceptedStatuses?: readonly TcbStatus[]
  /** Accepts a TD whose memory the host can read and change. Default: false. */
  readonly allowDebug?: boolean
  /** Default: true. Some clouds start TDs without it, whose kernel sets it later. */
  readonly requireSeptVeDisable?: boolean
  /** Accepts a TD bound to service TDs, which may for example migrate it. Default: false. */
  readonly allowServiceTd?: boolean
}

/** @throws {EvidenceError} `TCB_REVOKED` or `TCB_NOT_ACCEPTED`. */
export function checkStatus({ status, advisoryIds }: Tcb, policy: TdxPolicy): void {
  const accepted = policy.acceptedStatuses ?? ['UpToDate']
  if (status === 'Revoked') throw refuse('TCB_REVOKED', 'the platform is revoked')
  if (!accepted.includes(status)) {
    const reasons = advisoryIds.length > 0 ? ` (${advisoryIds.join(', ')})` : ''
    throw refuse(
      'TCB_NOT_ACCEPTED',
      `the platform is ${status}${reasons}, accepted: ${accepted.join(', ')}`,
    )
  }
}

/** @throws {EvidenceError} `TD_DEBUG`, `TD_ATTRIBUTES_RESERVED` or `TD_SEPT_VE`. */
export function checkTdAttributes({ tdAttributes }: TdBody, policy: TdxPolicy): void {
  const { debug, septVeDisable, reserved } = decodeTdAttributes(tdAttributes)
  const { allowDebug = false, requireSeptVeDisable = true } = policy
  if (debug && !allowDebug) throw refuse('TD_DEBUG', 'the TD is started for debugging')
  if (reserved !== 0n) {
    const bits = reserved.toString(16)
    throw refuse('TD_ATTRIBUTES_RESERVED', `TDATTRIBUTES has unknown bits 0x${bits}`)
  }
  if (!septVeDisable && requireSeptVeDisable) {
    throw refuse('TD_SEPT_VE', 'SEPT_VE_DISABLE is not set, so the host can interrupt the TD')
  }
}

/** @throws {EvidenceError} `TD_SERVICE_TD`. */
export function checkServiceTd({ mrServiceTd }: TdBody, policy: TdxPolicy): void {
  if (policy.allowServiceTd === true) return
  if (mrServiceTd?.some((octet) => octet !== 0)) {
    throw refuse('TD_SERVICE_TD', `service TD ${toHex(mrServiceTd)} is bound to the TD`)
  }
}

/** @throws {EvidenceError} `REPORT_DATA_MISMATCH`. */
export function checkReportData({ reportData }: TdBody, expected: Uint8Array): void {
  if (!sameBytes(reportData, expected)) {
    const found = `report data is ${toHex(reportData)}, expected ${toHex(expected)}`
    throw refuse('REPORT_DATA_MISMATCH', found)
  }
}

function refuse(code: string, found: string): EvidenceError {
  return new EvidenceError(code, `Cannot accept quote: ${found}`)
}
