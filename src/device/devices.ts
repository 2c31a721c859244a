/** What the attestation devices of a machine can do, as the rest of cvmd uses them. */

/** Whom a device call is made for, and until when it matters. */
export interface CallOptions {
  /** Callers take turns by this key; a Unix socket's callers share one. Default `""`. */
  readonly caller?: string
  /** Aborting gives the place in the queue back; a call already running is left to end unheard. */
  readonly signal?: AbortSignal
}

/**
 * Intel TDX in a guest (kernel ABI: Documentation/ABI/testing/configfs-tsm-report,
 * sysfs-devices-virtual-misc-tdx_guest, include/uapi/linux/tdx-guest.h).
 *
 * Failures are {@link DeviceError} (errno of the kernel) or {@link QueueError}.
 */
export interface TdxDevice {
  /** Whether quotes can be made here: a report entry's provider is `tdx_guest`. */
  readonly canQuote: boolean
  /** Whether RTMRs can be extended here (measurement files, Linux 6.16 or later). */
  readonly canExtend: boolean
  /**
   * A quote over exactly 64 bytes of report data. It was parsed, and its report data is the
   * caller's own; trailing zero bytes of the host's buffer are kept as the device gave them.
   */
  quote(reportData: Uint8Array, options?: CallOptions): Promise<Uint8Array>
  /** The 1024-byte TDREPORT over exactly 64 bytes, from /dev/tdx_guest. */
  report(reportData: Uint8Array, options?: CallOptions): Promise<Uint8Array>
  /** The measurements, 48 bytes each, by the cheapest way this machine has. */
  registers(options?: CallOptions): Promise<TdxRegisters>
  /** Extends an RTMR: `RTMR := SHA384(RTMR || digest)`, digest exactly 48 bytes. */
  extend(index: 2 | 3, digest: Uint8Array, options?: CallOptions): Promise<void>
  /** The boot event log (CCEL data area, with its padding), undefined where there is none. */
  bootLog(): Promise<Uint8Array | undefined>
}

/** 48 bytes each. The measurement files, a TDREPORT and a quote's body have all of them. */
export interface TdxRegisters {
  readonly mrtd: Uint8Array
  readonly mrConfigId: Uint8Array
  readonly mrOwner: Uint8Array
  readonly mrOwnerConfig: Uint8Array
  readonly rtmr: readonly [Uint8Array, Uint8Array, Uint8Array, Uint8Array]
}

/** The Nitro Secure Module (spec nitro §2). Failures: {@link DeviceError}, `NsmError`, {@link QueueError}. */
export interface NsmDevice {
  describe(options?: CallOptions): Promise<NsmDescription>
  /** 256 random bytes. */
  random(options?: CallOptions): Promise<Uint8Array>
  describePcr(index: number, options?: CallOptions): Promise<PcrState>
  /** @returns The new value. */
  extendPcr(index: number, data: Uint8Array, options?: CallOptions): Promise<Uint8Array>
  lockPcr(index: number, options?: CallOptions): Promise<void>
  /** Locks 0 to `range` - 1. */
  lockPcrs(range: number, options?: CallOptions): Promise<void>
  /** An attestation document (COSE_Sign1), checked to carry the fields asked for. */
  attest(fields: NsmFields, options?: CallOptions): Promise<Uint8Array>
}

export interface NsmDescription {
  /** `major.minor.patch` */
  readonly version: string
  readonly moduleId: string
  readonly maxPcrs: number
  readonly lockedPcrs: readonly number[]
  /** `SHA256`, `SHA384` or `SHA512` */
  readonly digest: string
}

export interface PcrState {
  readonly locked: boolean
  /** 48 bytes with SHA384. */
  readonly value: Uint8Array
}

export interface NsmFields {
  readonly userData?: Uint8Array | undefined
  readonly nonce?: Uint8Array | undefined
  readonly publicKey?: Uint8Array | undefined
}

/** A call that never reached the device. */
export class QueueError extends Error {
  override readonly name = 'QueueError'
  /** `QUEUE_FULL`, `DEADLINE` (it may still be running), `ABORTED`. */
  readonly code: 'QUEUE_FULL' | 'DEADLINE' | 'ABORTED'
  /** For `QUEUE_FULL`: when a place is likely, in milliseconds. */
  readonly retryAfterMs: number | undefined

  constructor(code: QueueError['code'], message: string, retryAfterMs?: number) {
    super(message)
    this.code = code
    this.retryAfterMs = retryAfterMs
  }
}

/** What the module itself refused; not an errno (spec nitro §2). */
export class NsmError extends Error {
  override readonly name = 'NsmError'
  /** `InvalidIndex`, `ReadOnlyIndex`, `InputTooLarge`, … as the module says. */
  readonly code: string

  /** @param found What was wrong, when the module itself did not say. */
  constructor(
    code: string,
    operation: string,
    found = `the module answers ${code}`,
    options?: ErrorOptions,
  ) {
    super(`Cannot carry out ${operation}: ${found}`, options)
    this.code = code
  }
}
