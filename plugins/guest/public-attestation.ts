import { toHex } from '../../src/attest/hex.ts'
import { attestationReportData } from '../../src/attest/report-binding.ts'
import type { Attester } from '../../src/attester/attester.ts'
import { base64 } from '../../src/compat/prpc/bytes.ts'
import { quoteEventLog } from '../../src/compat/prpc/event-log.ts'
import type { CallOptions } from '../../src/device/devices.ts'
import { ApiError } from '../../src/errors.ts'
import type { Config } from './config.ts'
import type { Identity } from './identity.ts'

/** Nonces with which evidence is bound; without one, it is bound to none. */
const MAX_NONCE_BYTES = 64

/** What `GET /attestation` answers; bytes are hex but for `document`, which is base64. */
export interface PublicAttestation {
  readonly platform: 'tdx' | 'nitro'
  readonly quote?: string
  readonly document?: string
  /** JSON text. */
  readonly event_log: string
  readonly report_data: string
  readonly nonce: string
  readonly app_id: string
  readonly compose_hash: string
  readonly instance_id: string
  readonly vm_config: string
  /** RFC 3339; when the evidence was made. */
  readonly timestamp: string
}

/**
 * Evidence for anybody (spec dstack §2.4). Making it is slow and one at a time, so what needs no
 * nonce is given again for a while, and what needs one is limited in number.
 */
export class PublicAttestations {
  readonly #attester: Attester
  readonly #config: Config
  readonly #identity: () => Identity
  #cached: { readonly at: number; readonly answer: Promise<PublicAttestation> } | undefined
  /** Answers with a nonce that may be made now; grows back with time. */
  #credit: number
  #creditAt = performance.now()

  constructor(attester: Attester, config: Config, identity: () => Identity) {
    this.#attester = attester
    this.#config = config
    this.#identity = identity
    this.#credit = config.attestations_per_minute
  }

  /** @throws {ApiError} 400 for a nonce over 64 bytes, 429 when too many were asked for. */
  async answer(nonce: Uint8Array, options: CallOptions): Promise<PublicAttestation> {
    if (nonce.byteLength > MAX_NONCE_BYTES) {
      const why = `Cannot bind a nonce of ${nonce.byteLength} bytes: at most ${MAX_NONCE_BYTES}`
      throw new ApiError(400, 'NONCE_TOO_LONG', why)
    }
    if (nonce.byteLength > 0) {
      this.#spend()
      return this.#make(nonce, options)
    }
    const { attestation_cache_ms: fresh } = this.#config
    if (this.#cached && performance.now() - this.#cached.at < fresh) return this.#cached.answer
    // Without a signal: whoever asked first must not take it away from those who wait with him.
    const answer = this.#make(nonce, { caller: options.caller ?? '' })
    const cached = { at: performance.now(), answer }
    this.#cached = cached
    answer.catch(() => {
      if (this.#cached === cached) this.#cached = undefined
    })
    return answer
  }

  #spend(): void {
    const { attestations_per_minute: perMinute } = this.#config
    const now = performance.now()
    const grown = ((now - this.#creditAt) / 60_000) * perMinute
    this.#credit = Math.min(perMinute, this.#credit + grown)
    this.#creditAt = now
    if (this.#credit >= 1) {
      this.#credit -= 1
      return
    }
    const seconds = Math.ceil(((1 - this.#credit) * 60) / perMinute)
    const why = `Cannot attest again so soon: ${perMinute} a minute are the limit here`
    const headers = { 'retry-after': String(seconds) }
    throw new ApiError(429, 'ATTESTATION_LIMIT', why, { headers })
  }

  async #make(nonce: Uint8Array, options: CallOptions): Promise<PublicAttestation> {
    const identity = this.#identity()
    const evidence = await this.#attester.evidence(attestationReportData(nonce), options)
    const shown =
      evidence.platform === 'tdx'
        ? { quote: toHex(evidence.quote), event_log: quoteEventLog(evidence.eventLog) }
        : { document: base64(evidence.document), event_log: '[]' }
    return {
      platform: evidence.platform,
      ...shown,
      report_data: toHex(evidence.reportData),
      nonce: toHex(nonce),
      app_id: identity.appId,
      compose_hash: identity.composeHash,
      instance_id: identity.instanceId,
      vm_config: identity.publicTcbInfo ? identity.vmConfig : '',
      timestamp: new Date().toISOString(),
    }
  }
}
