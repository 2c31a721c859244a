import type { EventLogEntry } from '../attest/event-log.ts'
import type { CallOptions, NsmDevice, TdxDevice } from '../device/devices.ts'

/** What this machine can prove about itself; the service `attestation` of the core. */
export interface Attester {
  /** What evidence is made with; undefined where the machine has neither. */
  readonly platform: Platform | undefined
  /** Whether `--simulate` made the devices: nothing here convinces a real verifier. */
  readonly simulated: boolean
  /** Present on a TDX guest, which comes first should a machine show both. */
  readonly tdx: TdxDevice | undefined
  /** Present where the Nitro Secure Module answers. */
  readonly nsm: NsmDevice | undefined
  /** Runtime events, which on TDX are measured into RTMR3. */
  readonly runtimeEvents: RuntimeEvents
  /**
   * Evidence over exactly 64 bytes: a TDX quote, or an NSM document with them as user data.
   *
   * @throws {DeviceError | NsmError | QueueError} See `src/attester/problems.ts` for HTTP.
   */
  evidence(reportData: Uint8Array, options?: CallOptions): Promise<Evidence>
  /** Who sells the machine and what it is called (DMI `sys_vendor`, `product_name`), or empty. */
  cloud(): Promise<{ readonly vendor: string; readonly product: string }>
  /** Boot entries from the CCEL and runtime entries, digests always filled; empty on Nitro. */
  eventLog(): Promise<readonly EventLogEntry[]>
}

export type Platform = 'tdx' | 'nitro'

/** Evidence as a verifier far away needs it. */
export type Evidence =
  | {
      readonly platform: 'tdx'
      readonly quote: Uint8Array
      readonly eventLog: readonly EventLogEntry[]
      readonly reportData: Uint8Array
    }
  | {
      readonly platform: 'nitro'
      readonly document: Uint8Array
      readonly reportData: Uint8Array
    }

/** Events added at run time (spec dstack §6.3): extended first, then logged, under one lock. */
export interface RuntimeEvents {
  /**
   * Measures an event into RTMR3 and appends it to the log.
   *
   * @throws {ApiError} 400 where registers cannot be extended; 503 after an earlier failure left
   *   the log and the register apart, until a restart finds them in step.
   */
  emit(name: string, payload: Uint8Array, options?: CallOptions): Promise<void>
  /** All so far, in order, those of earlier runs of the daemon included. */
  list(): Promise<readonly EventLogEntry[]>
}
