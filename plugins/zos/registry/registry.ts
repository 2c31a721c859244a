import type { Cidr, Ip } from '../model.ts'

/**
 * Who is who, and what was agreed: a file (spec §11.3) or the chain (§11.1). What it does not know
 * is undefined.
 *
 * Every method throws a {@link RegistryError} when the registry cannot be asked, or what it says is
 * not understood.
 */
export interface Registry {
  /** This node. */
  node(signal?: AbortSignal): Promise<RegisteredNode>
  twin(id: number, signal?: AbortSignal): Promise<Twin | undefined>
  contract(id: bigint, signal?: AbortSignal): Promise<Contract | undefined>
  /** Twin of the farmer, who owns the node's farm. */
  farmerTwin(signal?: AbortSignal): Promise<number>
  /** Contract for the whole node. */
  rentContract(signal?: AbortSignal): Promise<bigint | undefined>
  /** Node contracts of this node that are not deleted. */
  activeContracts(signal?: AbortSignal): Promise<readonly bigint[]>
  /** The name contract of a gateway's name. */
  nameContract(name: string, signal?: AbortSignal): Promise<bigint | undefined>
  /** Twins that may use `zos.debug.*`. */
  adminTwins(): readonly number[]
  /** Looks again at once at what it keeps, for whoever just changed it. Absent where it keeps nothing. */
  refresh?(signal?: AbortSignal): Promise<void>
  /** Called after anything may have changed; the answer ends it. */
  onChange(changed: () => void): () => void
  start(): Promise<void>
  stop(): Promise<void>
  /** Why it cannot be asked just now; undefined when it can. */
  notReady(): string | undefined
}

export interface RegisteredNode {
  readonly id: number
  readonly twinId: number
  readonly farmId: number
}

export interface Twin {
  readonly id: number
  /** Undefined where the registry does not say (the chain): a signature says its own. */
  readonly keyType: 'ed25519' | 'sr25519' | undefined
  /** 32 bytes. */
  readonly publicKey: Uint8Array
  /** Hosts of its relays; empty when it has none. */
  readonly relays: readonly string[]
  /** Compressed secp256k1 key for encrypted messages, 33 bytes. */
  readonly pk: Uint8Array | undefined
}

export interface PublicIp {
  readonly ip: Cidr
  readonly gateway: Ip
}

export type ContractState = 'created' | 'grace_period' | 'deleted'

export interface Contract {
  readonly contractId: bigint
  readonly twinId: number
  readonly state: ContractState
  readonly data: NodeContract | { readonly type: 'name'; readonly name: string } | RentContract
}

export interface NodeContract {
  readonly type: 'node'
  readonly nodeId: number
  /** MD5 of the deployment, 32 hex digits. */
  readonly deploymentHash: string
  readonly publicIps: readonly PublicIp[]
}

export interface RentContract {
  readonly type: 'rent'
  readonly nodeId: number
}

/** The registry gave no answer that can be used. */
export class RegistryError extends Error {
  override readonly name = 'RegistryError'
  readonly code: 'REGISTRY_UNREACHABLE' | 'REGISTRY_INVALID' | 'REGISTRY_VERSION'

  constructor(code: RegistryError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
