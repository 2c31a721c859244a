import { blake2b } from '@noble/hashes/blake2b'
import { ScaleWriter } from '../../../../src/attest/scale.ts'
import { xxHash64 } from './xxhash64.ts'

/**
 * Where the chain keeps what the node asks for (spec §11.1). All of them are maps of the kind
 * Blake2-128-concat: `twox128(pallet) ‖ twox128(item) ‖ blake2_128(key) ‖ key`, the key in SCALE.
 */
export const STORAGE = {
  twin: (id: number) => key('TfgridModule', 'Twins', u32(id)),
  /** @param account 32 bytes. */
  twinOfAccount: (account: Uint8Array) => key('TfgridModule', 'TwinIdByAccountID', account),
  farm: (id: number) => key('TfgridModule', 'Farms', u32(id)),
  node: (id: number) => key('TfgridModule', 'Nodes', u32(id)),
  nodeOfTwin: (id: number) => key('TfgridModule', 'NodeIdByTwinID', u32(id)),
  contract: (id: bigint) => key('SmartContractModule', 'Contracts', u64(id)),
  rentContract: (node: number) =>
    key('SmartContractModule', 'ActiveRentContractForNode', u32(node)),
  activeContracts: (node: number) => key('SmartContractModule', 'ActiveNodeContracts', u32(node)),
  nameContract: (name: string) =>
    key(
      'SmartContractModule',
      'ContractIDByNameRegistration',
      new ScaleWriter().text(name).finish(),
    ),
} as const

function key(pallet: string, item: string, encoded: Uint8Array): Uint8Array {
  return new Uint8Array(
    Buffer.concat([twox128(pallet), twox128(item), blake2b(encoded, { dkLen: 16 }), encoded]),
  )
}

/** XXH64 of a name with the seeds 0 and 1, little endian: 16 bytes. */
export function twox128(name: string): Uint8Array {
  const text = new TextEncoder().encode(name)
  const hash = new Uint8Array(16)
  const view = new DataView(hash.buffer)
  view.setBigUint64(0, xxHash64(text, 0n), true)
  view.setBigUint64(8, xxHash64(text, 1n), true)
  return hash
}

function u32(value: number): Uint8Array {
  return new ScaleWriter().u32(value).finish()
}

function u64(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setBigUint64(0, value, true)
  return bytes
}
