import type { Contract, ContractState, Twin } from '../../plugins/zos/registry/registry.ts'

/*
 * The chain's records in SCALE, written by what spec zos §11.1 says and not by the code under test.
 */

const number = (value: bigint | number, bytes: number) => {
  const all = Buffer.alloc(8)
  all.writeBigUInt64LE(BigInt(value))
  return all.subarray(0, bytes)
}

export const u32 = (value: number) => number(value, 4)
export const u64 = (value: bigint) => number(value, 8)

/** A length before what it counts. */
export function compact(value: number): Uint8Array {
  if (value < 64) return number(value << 2, 1)
  if (value < 16_384) return number((value << 2) | 1, 2)
  return number(value * 4 + 2, 4)
}

export function blob(value: string | Uint8Array): Uint8Array {
  const bytes = Buffer.from(value as string)
  return Buffer.concat([compact(bytes.length), bytes])
}

export function vec(items: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat([compact(items.length), ...items])
}

const option = (value: Uint8Array | undefined) =>
  value === undefined ? Buffer.of(0) : Buffer.concat([Buffer.of(1), value])

export function twinBytes({ id, publicKey, relays, pk }: Twin): Uint8Array {
  const entities = [Buffer.concat([u32(7), blob('signature of an entity')])]
  return Buffer.concat([
    u32(id),
    publicKey,
    option(relays.length === 0 ? undefined : blob(relays.join('_'))),
    vec(entities),
    option(pk && blob(pk)),
  ])
}

/** @param version Of the layout; 4 is the one that is known. */
export function contractBytes(contract: Contract, version = 4): Uint8Array {
  return Buffer.concat([
    u32(version),
    STATES[contract.state],
    u64(contract.contractId),
    u32(contract.twinId),
    dataBytes(contract.data),
    option(u64(3n)),
  ])
}

const STATES: Readonly<Record<ContractState, Uint8Array>> = {
  created: Buffer.of(0),
  deleted: Buffer.of(1, 2),
  grace_period: Buffer.concat([Buffer.of(2), u64(123_456n)]),
}

function dataBytes(data: Contract['data']): Uint8Array {
  if (data.type === 'name') return Buffer.concat([Buffer.of(1), blob(data.name)])
  if (data.type === 'rent') return Buffer.concat([Buffer.of(2), u32(data.nodeId)])
  return Buffer.concat([
    Buffer.of(0),
    u32(data.nodeId),
    Buffer.from(data.deploymentHash),
    blob('{"type":"vm"}'),
    u32(data.publicIps.length),
    vec(data.publicIps.map(({ ip, gateway }) => Buffer.concat([blob(ip), blob(gateway), u64(1n)]))),
  ])
}

/** A farm, with what follows the fields that are read. */
export function farmBytes(id: number, twinId: number, version = 4): Uint8Array {
  return Buffer.concat([u32(version), u32(id), blob('a farm'), u32(twinId), Buffer.alloc(20, 1)])
}

export function nodeBytes(id: number, farmId: number, twinId: number): Uint8Array {
  return Buffer.concat([u32(6), u32(id), u32(farmId), u32(twinId), Buffer.alloc(100, 1)])
}
