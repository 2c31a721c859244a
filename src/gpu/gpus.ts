/** A GPU that a workload may have (spec zos §9.6). */
export interface Gpu {
  /** `<slot>/<vendor>/<device>`: `0000:28:00.0/1002/731f`. */
  readonly id: string
  /** `0000:28:00.0` */
  readonly slot: string
  /** PCI class, six hex digits: `030200` is a controller without display. */
  readonly class: string
  /** Names of the PCI id database; `unknown` where it does not know the device. */
  readonly vendor: string
  readonly device: string
  /** Bytes of its own memory where a driver tells, else of its largest memory window; 0: unknown. */
  readonly memory: number
  /** Where {@link Gpu.memory} is from. */
  readonly memoryFrom: 'driver' | 'window' | 'unknown'
  /** Kernel driver that has it; '' when none has: `nvidia`, `vfio-pci`. */
  readonly driver: string
  /** -1 where there is none. */
  readonly numaNode: number
  /** NVIDIA's name of it, `GPU-…`; '' where its driver does not tell. */
  readonly uuid: string
}

/** What the driver says at the moment, for those who run the machine. */
export interface GpuState extends Gpu {
  /** '' when it does not say. */
  readonly driverVersion: string
  /** Degrees Celsius. */
  readonly temperature: number | undefined
  readonly confidentialComputing: 'on' | 'off' | 'devtools' | 'unknown'
}

/** Who has a GPU. */
export interface GpuHolder {
  /** The plugin that gave it away. */
  readonly owner: string
  /** The workload, in the owner's words. */
  readonly workload: string
  readonly contract: bigint
}

/**
 * The machine's GPUs, and who has which: a service of the core, so that whoever gives them away does
 * not give one twice.
 */
export interface Gpus {
  /**
   * AMD's and NVIDIA's, integrated ones left out; found once and kept.
   *
   * @param classes `reference`: only class 030000, as zos lists them.
   */
  list(classes?: 'all' | 'reference'): Promise<readonly Gpu[]>
  /** The same with what changes; asked for anew after some seconds. */
  states(): Promise<readonly GpuState[]>
  /**
   * Takes all of them for a workload, or none. What it already has stays its own.
   *
   * @throws {GpuError} `GPU_UNKNOWN`, `GPU_TAKEN`
   */
  claim(ids: readonly string[], holder: GpuHolder): Promise<void>
  /** Gives back everything a workload has. */
  release(owner: string, workload: string): void
  holder(id: string): GpuHolder | undefined
}

/** A GPU that cannot be given. */
export class GpuError extends Error {
  override readonly name = 'GpuError'
  readonly code: 'GPU_UNKNOWN' | 'GPU_TAKEN'
  readonly id: string

  constructor(code: GpuError['code'], id: string, message: string) {
    super(message)
    this.code = code
    this.id = id
  }
}
