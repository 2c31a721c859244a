import type { EventLogEntry } from '../../src/attest/event-log.ts'
import { EvidenceError } from '../../src/attest/evidence-error.ts'
import { toHex } from '../../src/attest/hex.ts'
import { deviceId, mrAggregated, nitroDeviceId, nitroImageHash } from '../../src/attest/identity.ts'
import { pckOf } from '../../src/attest/tdx/pck.ts'
import { parseQuote } from '../../src/attest/tdx/quote.ts'
import type { Attester } from '../../src/attester/attester.ts'
import { within } from '../../src/deadline.ts'
import type { CallOptions, NsmDevice, TdxDevice, TdxRegisters } from '../../src/device/devices.ts'
import type { Identity } from './identity.ts'

/** A device that does not answer at all may not hold up the stop. */
const SETTLE_MS = 2000

/** What the machine adds to the application's identity; hex, empty where it cannot be known. */
export interface MachineFacts {
  /** 32 bytes: names the platform the VM runs on. */
  readonly deviceId: string
  /** 32 bytes over all measurements; empty without TDX. */
  readonly mrAggregated: string
  /** 32 bytes: what the configuration says, on Nitro what the registers say. */
  readonly osImageHash: string
  /** Undefined without TDX. */
  readonly registers: TdxRegisters | undefined
  readonly eventLog: readonly EventLogEntry[]
  readonly cloud: { readonly vendor: string; readonly product: string }
}

/** Looks at the machine for `Info`; what does not change is looked at once. */
export class MachineFactsReader {
  readonly #attester: Attester
  /** Of TDX, from a quote, which is slow; never changes while the VM runs. */
  #deviceId: Promise<string> | undefined
  #preparing: Promise<void> | undefined

  constructor(attester: Attester) {
    this.#attester = attester
  }

  /**
   * Finds out what takes a quote, a second or more on real machines, before anybody asks: clients
   * that look whether the agent is there wait for half a second.
   */
  prepare(): void {
    const { tdx } = this.#attester
    if (tdx) this.#preparing = this.#tdxDeviceId(tdx).then(() => {})
  }

  /** Waits a moment for the quote of {@link prepare}: its report entry would outlive the daemon. */
  async stop(): Promise<void> {
    await within(SETTLE_MS, this.#preparing, 'end').catch(() => {})
  }

  /** @throws {DeviceError | NsmError | QueueError} */
  async read(identity: Identity, options: CallOptions): Promise<MachineFacts> {
    const { tdx, nsm } = this.#attester
    const [eventLog, cloud] = await Promise.all([this.#attester.eventLog(), this.#attester.cloud()])
    const { osImageHash } = identity
    const none = { deviceId: '', mrAggregated: '', osImageHash, registers: undefined }
    const own = tdx
      ? await this.#tdx(tdx, osImageHash, options)
      : nsm
        ? await nitroFacts(nsm, options)
        : none
    return { ...none, ...own, eventLog, cloud }
  }

  async #tdx(tdx: TdxDevice, osImageHash: string, options: CallOptions) {
    const registers = await tdx.registers(options)
    const deviceId = await this.#tdxDeviceId(tdx)
    return { deviceId, mrAggregated: toHex(mrAggregated(registers)), osImageHash, registers }
  }

  /** Shared by all callers, so that none of them may take it down with his own request. */
  async #tdxDeviceId(tdx: TdxDevice): Promise<string> {
    if (!tdx.canQuote) return ''
    this.#deviceId ??= tdxDeviceId(tdx)
    const asked = this.#deviceId
    try {
      return await asked
    } catch {
      // Who the application is can be told on a machine that makes no quotes now; it is tried again.
      if (this.#deviceId === asked) this.#deviceId = undefined
      return ''
    }
  }
}

/** Of a host that tells the platform in another way than by its certificate there is none. */
async function tdxDeviceId(tdx: TdxDevice): Promise<string> {
  const quote = await tdx.quote(new Uint8Array(64), { caller: 'device id' })
  try {
    return toHex(deviceId(pckOf(parseQuote(quote)).ppid))
  } catch (error) {
    if (error instanceof EvidenceError) return ''
    throw error
  }
}

/** The image and the parent instance are what PCR0 to PCR2 and PCR4 measure (spec dstack §10). */
async function nitroFacts(nsm: NsmDevice, options: CallOptions) {
  const indices = [0, 1, 2, 4] as const
  const pcrs = new Map<number, Uint8Array>()
  for (const index of indices) pcrs.set(index, (await nsm.describePcr(index, options)).value)
  return { deviceId: toHex(nitroDeviceId(pcrs)), osImageHash: toHex(nitroImageHash(pcrs)) }
}

/** Registers by name as `tcb_info` has them: `null` on a platform without. */
function registerFields(registers: TdxRegisters | undefined) {
  const at = (value: Uint8Array | undefined) => (value ? toHex(value) : null)
  return {
    mrtd: at(registers?.mrtd),
    rtmr0: at(registers?.rtmr[0]),
    rtmr1: at(registers?.rtmr[1]),
    rtmr2: at(registers?.rtmr[2]),
    rtmr3: at(registers?.rtmr[3]),
  }
}

function tcbInfo(identity: Identity, facts: MachineFacts): string {
  return JSON.stringify({
    ...registerFields(facts.registers),
    mr_aggregated: facts.mrAggregated,
    os_image_hash: facts.osImageHash,
    compose_hash: identity.composeHash,
    device_id: facts.deviceId,
    event_log: facts.eventLog,
    app_compose: identity.appCompose,
  })
}

function keyProviderInfo({ keyProvider }: Identity): string {
  return keyProvider ? JSON.stringify(keyProvider) : ''
}

/**
 * `Info` of the unversioned API, of Tappd and, with what is not public left out, of the external
 * listener (spec dstack §6.5). `tcb_info` is never empty: the published client parses it.
 */
export function appInfo(identity: Identity, facts: MachineFacts, isPublic: boolean) {
  return {
    app_id: identity.appId,
    instance_id: identity.instanceId,
    app_cert: '',
    tcb_info: isPublic ? tcbInfo(identity, facts) : '{}',
    app_name: identity.appName,
    device_id: facts.deviceId,
    mr_aggregated: facts.mrAggregated,
    os_image_hash: facts.osImageHash,
    key_provider_info: keyProviderInfo(identity),
    compose_hash: identity.composeHash,
    vm_config: isPublic ? identity.vmConfig : '',
    cloud_vendor: facts.cloud.vendor,
    cloud_product: facts.cloud.product,
  }
}

/** `Info` of v1: no registers and no log, which mean something inside an attestation only (§5.4). */
export function appInfoV1(identity: Identity, facts: MachineFacts, isPublic: boolean) {
  return {
    app_id: identity.appId,
    app_name: identity.appName,
    compose_hash: identity.composeHash,
    app_compose: isPublic ? identity.appCompose : '',
    instance_id: identity.instanceId,
    device_id: facts.deviceId,
    os_image_hash: facts.osImageHash,
    mr_aggregated: facts.mrAggregated,
    vm_config: isPublic ? identity.vmConfig : '',
    key_provider_info: isPublic ? keyProviderInfo(identity) : '',
    cloud_vendor: facts.cloud.vendor,
    cloud_product: facts.cloud.product,
  }
}
