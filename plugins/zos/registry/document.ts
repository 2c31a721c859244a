import { fromHex } from '../../../src/attest/hex.ts'
import { JsonError } from '../json/json-error.ts'
import { readJson } from '../json/read.ts'
import { splitRelays } from './chain/records.ts'
import { DocumentValue } from './document-value.ts'
import {
  type Contract,
  type PublicIp,
  type RegisteredNode,
  RegistryError,
  type Twin,
} from './registry.ts'

/** Longest document, in bytes and so in characters. */
export const MAX_DOCUMENT_BYTES = 16 * 1024 * 1024

/** The embedded registry's document (spec §11.3), checked. */
export interface RegistryDocument {
  readonly node: RegisteredNode
  /** Of the farm. */
  readonly farmerTwin: number
  readonly twins: ReadonlyMap<number, Twin>
  readonly contracts: ReadonlyMap<bigint, Contract>
  readonly rentContract: bigint | undefined
  readonly adminTwins: readonly number[]
}

/**
 * Reads the document; `node` and `farm` have to be there, the rest may be left out.
 *
 * @throws {RegistryError} `REGISTRY_INVALID`: `contracts[3].twin_id must be …`.
 */
export function readRegistryDocument(text: string): RegistryDocument {
  const root = new DocumentValue(readTree(text), '')
  const all = root.members(['node', 'farm', 'twins', 'contracts', 'rent_contract', 'admin_twins'])
  const node = all.node.members(['id', 'twin_id', 'farm_id'])
  const farm = all.farm.members(['id', 'twin_id'])
  const farmId = node.farm_id.u32()
  if (farm.id.u32() !== farmId) throw farm.id.wrong(`must be the node's farm, ${farmId}`)
  return {
    node: { id: node.id.u32(), twinId: node.twin_id.u32(), farmId },
    farmerTwin: farm.twin_id.u32(),
    twins: byId(all.twins.items(), readTwin, ({ id }) => id),
    contracts: byId(all.contracts.items(), readContract, ({ contractId }) => contractId),
    rentContract: all.rent_contract.empty ? undefined : all.rent_contract.u64(),
    adminTwins: all.admin_twins.items().map((twin) => twin.u32()),
  }
}

function readTree(text: string) {
  try {
    return readJson(text, { maxLength: MAX_DOCUMENT_BYTES, maxDepth: 8 })
  } catch (cause) {
    if (!(cause instanceof JsonError)) throw cause
    throw new RegistryError('REGISTRY_INVALID', `the document is no JSON: ${cause.message}`, {
      cause,
    })
  }
}

function byId<K, V>(
  items: readonly DocumentValue[],
  read: (item: DocumentValue) => V,
  idOf: (value: V) => K,
): ReadonlyMap<K, V> {
  const all = new Map<K, V>()
  for (const item of items) {
    const value = read(item)
    if (all.has(idOf(value))) throw item.wrong(`has the id ${idOf(value)} of one before it`)
    all.set(idOf(value), value)
  }
  return all
}

function readTwin(item: DocumentValue): Twin {
  const twin = item.members(['id', 'key_type', 'public_key', 'relay', 'pk'])
  return {
    id: twin.id.u32(),
    keyType: twin.key_type.empty ? undefined : twin.key_type.oneOf(['ed25519', 'sr25519']),
    publicKey: fromHex(twin.public_key.hex(32), 'public_key'),
    relays: twin.relay.empty ? [] : splitRelays(twin.relay.text()),
    pk: twin.pk.empty ? undefined : fromHex(twin.pk.hex(33), 'pk'),
  }
}

function readContract(item: DocumentValue): Contract {
  const contract = item.members([
    'contract_id',
    'twin_id',
    'node_id',
    'type',
    'deployment_hash',
    'state',
    'public_ips',
    'name',
  ])
  const common = {
    contractId: contract.contract_id.u64(),
    twinId: contract.twin_id.u32(),
    state: contract.state.oneOf(['created', 'grace_period', 'deleted']),
  }
  const type = contract.type.oneOf(['node', 'name', 'rent'])
  if (type === 'name') {
    const name = contract.name.text()
    if (name === '') throw contract.name.wrong('must not be empty')
    return { ...common, data: { type, name } }
  }
  const nodeId = contract.node_id.u32()
  if (type === 'rent') return { ...common, data: { type, nodeId } }
  const deploymentHash = contract.deployment_hash.hex(16)
  const publicIps = contract.public_ips.items().map(readPublicIp)
  return { ...common, data: { type, nodeId, deploymentHash, publicIps } }
}

function readPublicIp(item: DocumentValue): PublicIp {
  const { ip, gateway } = item.members(['ip', 'gateway'])
  return { ip: ip.network(), gateway: gateway.address() }
}
