/** The body of `vm.create`; only the members that are used. */
export interface VmConfig {
  readonly cpus: { readonly boot_vcpus: number; readonly max_vcpus: number }
  readonly memory: { readonly size: number; readonly shared: boolean }
  readonly payload: VmPayload
  readonly disks: readonly {
    readonly path: string
    readonly readonly: boolean
    readonly image_type: 'Raw'
  }[]
  readonly net: readonly { readonly tap: string; readonly mac: string }[]
  readonly fs?: readonly {
    readonly tag: string
    readonly socket: string
    readonly num_queues: number
    readonly queue_size: number
  }[]
  readonly devices?: readonly { readonly path: string }[]
  readonly rng: { readonly src: string }
  readonly serial: { readonly mode: 'File'; readonly file: string }
  readonly console: { readonly mode: 'Off' }
}

/** What a machine starts with: firmware that reads its disk, or a kernel. */
export type VmPayload =
  | { readonly firmware: string }
  | { readonly kernel: string; readonly initramfs?: string; readonly cmdline: string }

/** For people, where nothing is configured. */
export const NO_PAYLOAD = 'no firmware and no kernel is configured'

/** A machine as it is to be made. */
export interface VmPlan {
  readonly cpus: number
  /** Bytes. */
  readonly memory: bigint
  readonly payload: VmPayload
  /** Raw, in the order of `/dev/vda`, `/dev/vdb`, …; the last is the one for cloud-init. */
  readonly disks: readonly { readonly path: string; readonly readonly: boolean }[]
  readonly nics: readonly { readonly tap: string; readonly mac: string }[]
  /** Folders of the host by tag. */
  readonly shares: readonly { readonly tag: string; readonly socket: string }[]
  /** Addresses on the PCI bus: `0000:28:00.0`. */
  readonly devices: readonly string[]
  readonly serialLog: string
}

const MIB = 1024n * 1024n

/**
 * Every disk is declared raw: a guest that writes the header of another format on its disk would
 * otherwise choose which file of the host it reads (CVE-2026-27211).
 */
export function vmConfig(plan: VmPlan): VmConfig {
  const { cpus, memory, payload, disks, nics, shares, devices, serialLog } = plan
  return {
    cpus: { boot_vcpus: cpus, max_vcpus: cpus },
    // Shared with virtiofsd, where there is one.
    memory: { size: Number((memory / MIB) * MIB), shared: shares.length > 0 },
    payload,
    disks: disks.map(({ path, readonly }) => ({ path, readonly, image_type: 'Raw' })),
    net: nics.map(({ tap, mac }) => ({ tap, mac })),
    ...(shares.length > 0 && {
      fs: shares.map(({ tag, socket }) => ({ tag, socket, num_queues: 1, queue_size: 1024 })),
    }),
    ...(devices.length > 0 && {
      devices: devices.map((slot) => ({ path: `/sys/bus/pci/devices/${slot}` })),
    }),
    rng: { src: '/dev/urandom' },
    serial: { mode: 'File', file: serialLog },
    console: { mode: 'Off' },
  }
}
