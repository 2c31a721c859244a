import { toHex } from '../../attest/hex.ts'
import { nitroDeviceId } from '../../attest/identity.ts'
import { type NitroClaims, verifyDocument } from '../../attest/nitro/verify.ts'
import type { SignedEvidence } from './evidence.ts'
import { unreadable } from './input.ts'
import type { Claims, Judged, JudgeOptions } from './judge.ts'

/** Judges an NSM document. */
export function judgeNitro(evidence: SignedEvidence, options: JudgeOptions): Judged {
  const { root, at, reportData, nonce, allowDebug } = options
  if (options.collateral) throw unreadable('an NSM document needs no --collateral')
  if (options.withoutCollateral) throw unreadable('an NSM document never needs collateral')
  if (options.acceptedStatuses) throw unreadable('an NSM document has no --tcb-status')
  const bound = evidence.attestedLog !== undefined || evidence.isBoundToNonce
  if (options.log && !evidence.attestedLog) {
    throw unreadable('on Nitro there is no event log to give with --log')
  }
  const { accepted, steps, claims } = verifyDocument(evidence.bytes, {
    at,
    policy: { allowDebug },
    ...(root && { root }),
    ...(reportData && { reportData }),
    // An answer of cvmd binds the nonce in its own way.
    ...(nonce && !bound && { nonce }),
  })
  if (!claims) return { accepted, steps, claims: undefined, reportData: undefined }
  const { userData = new Uint8Array(0) } = claims
  return { accepted, steps, claims: nitroClaims(claims), reportData: userData }
}

function nitroClaims(claims: NitroClaims): Claims {
  const { moduleId, timestamp, pcrs, debug, image, userData, nonce, publicKey } = claims
  const set = [...pcrs].filter(([, value]) => value.some((byte) => byte !== 0))
  return {
    module_id: moduleId,
    timestamp: new Date(timestamp).toISOString(),
    ...Object.fromEntries(set.map(([index, value]) => [`pcr${index}`, toHex(value)])),
    ...(image && { os_image_hash: toHex(image) }),
    ...(pcrs.has(4) && { device_id: toHex(nitroDeviceId(pcrs)) }),
    debug,
    ...(userData && { user_data: toHex(userData) }),
    ...(nonce && { nonce: toHex(nonce) }),
    ...(publicKey && { public_key: toHex(publicKey) }),
  }
}
