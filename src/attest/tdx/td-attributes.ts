/** TDATTRIBUTES, decoded (spec tdx §6). */
export interface TdAttributes {
  /** The host may read and change the memory: nothing this TD says can be trusted. */
  readonly debug: boolean
  /** A page taken away stops the TD instead of raising an exception inside it. */
  readonly septVeDisable: boolean
  /** Supervisor protection keys. */
  readonly pks: boolean
  /** Key locker. */
  readonly keyLocker: boolean
  /** Performance monitoring. */
  readonly perfmon: boolean
  /** All other bits, where they stand; zero in a TD whose features are all known here. */
  readonly reserved: bigint
}

const BITS = { debug: 0n, septVeDisable: 28n, pks: 30n, keyLocker: 31n, perfmon: 63n } as const
const KNOWN = Object.values(BITS).reduce<bigint>((mask, bit) => mask | (1n << bit), 0n)

/** @param bytes The 8 bytes of the field, little endian. */
export function decodeTdAttributes(bytes: Uint8Array): TdAttributes {
  const word = new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true)
  const has = (bit: bigint): boolean => ((word >> bit) & 1n) === 1n
  return {
    debug: has(BITS.debug),
    septVeDisable: has(BITS.septVeDisable),
    pks: has(BITS.pks),
    keyLocker: has(BITS.keyLocker),
    perfmon: has(BITS.perfmon),
    reserved: word & ~KNOWN,
  }
}
