/**
 * A deployment as the daemon works with it (spec zos §4). 64-bit integers are bigints; what may be
 * above 2^53 never goes through a number.
 */

/** Address of a host in canonical text (`10.1.2.3`, `2001:db8::1`); '' when unset. */
export type Ip = string

/** Network in CIDR text that keeps the host part, its address canonical; '' when unset. */
export type Cidr = string

/** Every type the reference knows, in the order in which they are provisioned (§7.1). */
export const WORKLOAD_TYPES = [
  'zmount',
  'volume',
  'qsfs',
  'network',
  'network-light',
  'ipv4',
  'ip',
  'zmachine',
  'zmachine-light',
  'zlogs',
  'zdb',
  'gateway-name-proxy',
  'gateway-fqdn-proxy',
] as const
export type WorkloadType = (typeof WORKLOAD_TYPES)[number]

export interface Deployment {
  /** u32; 0 on creation. */
  readonly version: number
  /** u32 */
  readonly twinId: number
  /** u64 */
  readonly contractId: bigint
  readonly metadata: string
  readonly description: string
  /** Seconds since 1970, int64. */
  readonly expiration: bigint
  readonly signatureRequirement: SignatureRequirement
  readonly workloads: readonly Workload[]
}

export interface SignatureRequirement {
  readonly requests: readonly SignatureRequest[]
  /** u64 */
  readonly weightRequired: bigint
  readonly signatures: readonly Signature[]
  readonly signatureStyle: string
}

export interface SignatureRequest {
  readonly twinId: number
  readonly required: boolean
  /** u64 */
  readonly weight: bigint
}

export interface Signature {
  readonly twinId: number
  /** Hex, as it was sent. */
  readonly signature: string
  readonly signatureType: string
}

/** What was asked for: a workload without its result. */
export type Workload = { [T in WorkloadType]: WorkloadOf<T> }[WorkloadType]

export interface WorkloadOf<T extends WorkloadType> {
  /** u32 */
  readonly version: number
  readonly name: string
  readonly type: T
  readonly data: DataOf[T]
  /** The JSON text of `data` as submitted, without white space between tokens. */
  readonly rawData: string
  readonly metadata: string
  readonly description: string
}

/** `unchanged` is seen in the history only. */
export type ResultState = 'init' | 'ok' | 'error' | 'deleted' | 'paused' | 'unchanged'

export interface Result {
  /** Seconds since 1970. */
  readonly created: number
  readonly state: ResultState
  readonly message: string
  /** JSON text; `null` when there is none. */
  readonly data: string
}

export interface DataOf {
  readonly zmount: { readonly size: bigint }
  readonly volume: { readonly size: bigint }
  readonly qsfs: Qsfs
  readonly network: Network
  readonly 'network-light': NetworkLight
  readonly ipv4: Record<string, never>
  readonly ip: { readonly v4: boolean; readonly v6: boolean }
  readonly zmachine: Zmachine
  readonly 'zmachine-light': ZmachineLight
  readonly zlogs: { readonly zmachine: string; readonly output: string }
  readonly zdb: Zdb
  readonly 'gateway-name-proxy': GatewayBackends & { readonly name: string }
  readonly 'gateway-fqdn-proxy': GatewayBackends & { readonly fqdn: string }
}

export interface NetworkPeer {
  readonly subnet: Cidr
  readonly wireguardPublicKey: string
  readonly allowedIps: readonly Cidr[]
  /** `host:port`, or ''. */
  readonly endpoint: string
}

export interface Mycelium {
  /** Bytes in lower-case hex. */
  readonly hexKey: string
  readonly peers: readonly string[]
}

export interface NetworkLight {
  readonly ipRange: Cidr
  readonly subnet: Cidr
  readonly wireguardPrivateKey: string
  readonly wireguardListenPort: number
  readonly peers: readonly NetworkPeer[]
  readonly mycelium: Mycelium
}

export interface Network extends Omit<NetworkLight, 'mycelium'> {
  readonly mycelium: Mycelium | undefined
}

export interface MachineInterface {
  /** Name of a network workload of the same twin. */
  readonly network: string
  readonly ip: Ip
}

export interface MachineNetworkLight {
  readonly mycelium: { readonly network: string; readonly hexSeed: string } | undefined
  readonly interfaces: readonly MachineInterface[]
}

export interface MachineNetwork extends MachineNetworkLight {
  /** Name of an `ip` or `ipv4` workload of the same deployment, or ''. */
  readonly publicIp: string
  readonly planetary: boolean
}

export interface ZmachineLight {
  readonly flist: string
  readonly network: MachineNetworkLight
  /** Of the root disk, bytes; 0 is the minimum. */
  readonly size: bigint
  readonly cpu: number
  /** Bytes. */
  readonly memory: bigint
  readonly mounts: readonly { readonly name: string; readonly mountpoint: string }[]
  readonly entrypoint: string
  readonly env: ReadonlyMap<string, string>
  readonly corex: boolean
  /** Ids of GPUs: `slot/vendor/device`. */
  readonly gpu: readonly string[]
}

export interface Zmachine extends Omit<ZmachineLight, 'network'> {
  readonly network: MachineNetwork
}

export interface Zdb {
  readonly size: bigint
  readonly mode: 'user' | 'seq'
  readonly password: string
  readonly public: boolean
}

export interface GatewayBackends {
  readonly tlsPassthrough: boolean
  readonly backends: readonly string[]
  /** Name of a network, or undefined. */
  readonly network: string | undefined
}

export interface QsfsBackend {
  readonly address: string
  readonly namespace: string
  readonly password: string
}

export interface Qsfs {
  readonly cache: bigint
  readonly minimalShards: number
  readonly expectedShards: number
  readonly redundantGroups: number
  readonly redundantNodes: number
  readonly maxZdbDataDirSize: number
  readonly encryption: { readonly algorithm: string; readonly key: string }
  readonly meta: {
    readonly type: string
    readonly prefix: string
    readonly encryption: { readonly algorithm: string; readonly key: string }
    readonly backends: readonly QsfsBackend[]
  }
  readonly groups: readonly (readonly QsfsBackend[])[]
  readonly compression: string
}

/** Resources; sizes in bytes (spec §8). */
export interface Capacity {
  readonly cru: bigint
  readonly sru: bigint
  readonly hru: bigint
  readonly mru: bigint
  readonly ipv4u: bigint
}

export const NO_CAPACITY: Capacity = { cru: 0n, sru: 0n, hru: 0n, mru: 0n, ipv4u: 0n }

/** `<twin>-<contract>-<name>` (§4.3). */
export function workloadId(twinId: number, contractId: bigint, name: string): string {
  return `${twinId}-${contractId}-${name}`
}

/** Whether a workload runs, or would but for its pause. */
export function isOkay({ state }: Result): boolean {
  return state === 'ok' || state === 'paused'
}
