import type { Capacity } from '../model.ts'

/**
 * What the node tells of itself (spec §8 and §9). Every value is in the shape of the wire, and every
 * method works without privileges: what cannot be found out is left out or empty, as its comment
 * says. Errors are `ZosError`s.
 */
export interface NodeFacts {
  /** §8: total, computed once; `system` is what the node keeps for itself. */
  capacity(): Promise<{ readonly total: Capacity; readonly system: Capacity }>
  /** Bytes of memory that could be used now; for the capacity guard (§7.3). */
  availableMemory(): Promise<bigint>
  /** Established TCP connections. */
  openConnections(): Promise<number>
  pools(): Promise<readonly Pool[]>
  /** Ports in use or reserved, ascending. */
  wireguardPorts(): Promise<readonly number[]>
  hasIpv6(): Promise<boolean>
  /** Interface → addresses without prefix length. */
  interfaces(): Promise<Readonly<Record<string, readonly string[]>>>
  /** @throws {ZosError} `no public configuration` */
  publicConfig(): Promise<PublicConfig>
  adminInterfaces(): Promise<
    Readonly<Record<string, { readonly ips: readonly string[] | null; readonly mac: string }>>
  >
  publicNic(): Promise<ExitDevice>
  setPublicNic(device: string): Promise<void>
  version(): Promise<{ readonly zos: string; readonly zinit: string }>
  dmi(): Promise<Dmi>
  hypervisor(): Promise<string>
  /** Results of the tasks that ran; see {@link PerfResult}. */
  perf(): readonly PerfResult[]
  location(): Location
  /** Starts the tasks of `perf`, and loads the choice of NIC. */
  start(): Promise<void>
  stop(): Promise<void>
}

export interface Pool {
  readonly name: string
  readonly type: 'ssd' | 'hdd'
  readonly size: bigint
  readonly used: bigint
}

export interface PublicConfig {
  readonly type: 'vlan' | 'macvlan' | ''
  readonly ipv4: string
  readonly ipv6: string
  readonly gw4: string
  readonly gw6: string
  readonly domain: string
}

export interface ExitDevice {
  readonly is_single: boolean
  readonly is_dual: boolean
  readonly dual_interface: string
}

export interface Dmi {
  readonly tooling: { readonly aggregator: string; readonly decoder: string }
  readonly sections: readonly DmiSection[]
}

export interface DmiSection {
  readonly handleline: string
  readonly typestr: string
  readonly typenum: number
  readonly subsections: readonly DmiSubsection[]
}

export interface DmiSubsection {
  readonly title: string
  readonly properties?: Readonly<
    Record<string, { readonly value: string; readonly items?: readonly string[] }>
  >
}

export interface PerfResult {
  readonly name: string
  readonly description: string
  /** Seconds since 1970. */
  readonly timestamp: number
  readonly result: unknown
}

export interface Location {
  readonly longitude: number
  readonly latitude: number
  readonly continent: string
  readonly country_name: string
  readonly country_code: string
  readonly city_name: string
}
