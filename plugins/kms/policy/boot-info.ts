import type { EventLogEntry } from '../../../src/attest/event-log.ts'
import { EvidenceError } from '../../../src/attest/evidence-error.ts'
import { sameBytes, toHex } from '../../../src/attest/hex.ts'
import { appInfo, defaultAppId, deviceId, nitroDeviceId } from '../../../src/attest/identity.ts'
import type { NitroClaims } from '../../../src/attest/nitro/verify.ts'
import { replay } from '../../../src/attest/replay.ts'
import type { TdxClaims } from '../../../src/attest/tdx/verify.ts'

/**
 * What a policy decides on, as it goes over the wire to a policy service (spec dstack §9.3). Hex
 * is in lower case without `0x`; what was not measured is empty.
 */
export interface BootInfo {
  readonly teeVariant: 'dstack-tdx' | 'dstack-nitro-enclave'
  /** 32 bytes. */
  readonly mrAggregated: string
  /** 32 bytes, or empty. */
  readonly osImageHash: string
  /** 32 bytes. */
  readonly mrSystem: string
  /** 20 bytes. */
  readonly appId: string
  /** 32 bytes, or empty. */
  readonly composeHash: string
  /** 20 bytes, or empty. */
  readonly instanceId: string
  /** 32 bytes. */
  readonly deviceId: string
  /** JSON `{"name", "id"}` in hex, or empty. */
  readonly keyProviderInfo: string
  /** Intel's word for it; empty on Nitro, which has none. */
  readonly tcbStatus: string
  readonly advisoryIds: readonly string[]
}

/** `boot-time` is what an application is before it runs, the same for all its instances. */
export type BootVariant = 'full' | 'boot-time'

/**
 * What a TD measured. Everything comes from the quote, its PCK certificate and the events that
 * replay to its RTMR3; nothing from the configuration that travels beside them.
 *
 * @param claims Of a quote that was accepted.
 * @param log Whole or stripped; must replay to RTMR3.
 * @param variant `boot-time` for SignCert, as dstack's KMS asks its policy there.
 * @throws {EvidenceError} `CLAIMS_INCOMPLETE` when the platform or its TCB was not verified,
 *   `EVENT_LOG_MISMATCH`, `APP_ID_MISSING`, or as `appInfo`.
 */
export function tdxBootInfo(
  { quote, platform, tcb }: TdxClaims,
  log: readonly EventLogEntry[],
  variant: BootVariant = 'full',
): BootInfo {
  if (platform === undefined) throw refuse('CLAIMS_INCOMPLETE', 'the platform was not verified')
  if (tcb === undefined) throw refuse('CLAIMS_INCOMPLETE', 'the TCB status is not known')
  if (!sameBytes(replay(log)[3], quote.rtmr[3])) {
    throw refuse('EVENT_LOG_MISMATCH', 'the event log does not replay to RTMR3 of the quote')
  }
  const app = appInfo(log, quote, variant)
  if (app.appId === undefined) {
    throw refuse('APP_ID_MISSING', 'app_id must be 20 bytes, the event log has none')
  }
  return {
    teeVariant: 'dstack-tdx',
    mrAggregated: toHex(app.mrAggregated),
    osImageHash: hexOrEmpty(app.osImageHash),
    mrSystem: toHex(app.mrSystem),
    appId: toHex(app.appId),
    composeHash: hexOrEmpty(app.composeHash),
    instanceId: hexOrEmpty(app.instanceId),
    deviceId: toHex(deviceId(platform.ppid)),
    keyProviderInfo: toHex(Buffer.from(app.keyProvider ?? '')),
    tcbStatus: tcb.status,
    advisoryIds: tcb.advisoryIds,
  }
}

/**
 * What an enclave measured. Its image stands for the compose hash too, and for both MRs. Nothing
 * measures another app id than the one that follows from the image, so that is the one it has.
 *
 * @param claims Of a document that was accepted.
 * @throws {EvidenceError} `NITRO_DEBUG`, which leaves the registers of the image at zero;
 *   `PCR_MISSING`.
 */
export function nitroBootInfo({ image, debug, pcrs }: NitroClaims): BootInfo {
  if (debug) throw refuse('NITRO_DEBUG', 'an enclave started for debugging measures nothing')
  if (image === undefined) throw refuse('PCR_MISSING', 'the document lacks PCR0, PCR1 or PCR2')
  const measured = toHex(image)
  return {
    teeVariant: 'dstack-nitro-enclave',
    mrAggregated: measured,
    osImageHash: measured,
    mrSystem: measured,
    appId: toHex(defaultAppId(image)),
    composeHash: measured,
    instanceId: '',
    deviceId: toHex(nitroDeviceId(pcrs)),
    keyProviderInfo: '',
    tcbStatus: '',
    advisoryIds: [],
  }
}

const hexOrEmpty = (bytes: Uint8Array | undefined): string => (bytes ? toHex(bytes) : '')

function refuse(code: string, why: string): EvidenceError {
  return new EvidenceError(code, `Cannot say who asks for keys: ${why}`)
}
