const P1 = 0x9e3779b185ebca87n
const P2 = 0xc2b2ae3d27d4eb4fn
const P3 = 0x165667b19e3779f9n
const P4 = 0x85ebca77c2b2ae63n
const P5 = 0x27d4eb2f165667c5n

const word = (value: bigint) => BigInt.asUintN(64, value)

const rotate = (value: bigint, bits: bigint) => word((value << bits) | (value >> (64n - bits)))

const round = (sum: bigint, input: bigint) => word(rotate(word(sum + input * P2), 31n) * P1)

/**
 * XXH64 of bytes, by which Substrate names pallets and their items. No protection against anybody,
 * and slow: meant for names, of which there are few.
 *
 * @param seed 64 bits.
 * @see https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md
 */
export function xxHash64(bytes: Uint8Array, seed: bigint): bigint {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let at = 0
  let hash = seed + P5
  if (bytes.length >= 32) {
    const sums = [seed + P1 + P2, seed + P2, seed, seed - P1].map(word)
    for (; bytes.length - at >= 32; at += 32) {
      for (let lane = 0; lane < 4; lane++) {
        sums[lane] = round(sums[lane] as bigint, view.getBigUint64(at + lane * 8, true))
      }
    }
    const [a, b, c, d] = sums as [bigint, bigint, bigint, bigint]
    hash = rotate(a, 1n) + rotate(b, 7n) + rotate(c, 12n) + rotate(d, 18n)
    for (const sum of sums) hash = word((hash ^ round(0n, sum)) * P1 + P4)
  }
  hash = word(hash + BigInt(bytes.length))
  for (; bytes.length - at >= 8; at += 8) {
    hash = word(rotate(hash ^ round(0n, view.getBigUint64(at, true)), 27n) * P1 + P4)
  }
  if (bytes.length - at >= 4) {
    hash = word(rotate(hash ^ word(BigInt(view.getUint32(at, true)) * P1), 23n) * P2 + P3)
    at += 4
  }
  for (; at < bytes.length; at++) {
    hash = word(rotate(hash ^ word(BigInt(view.getUint8(at)) * P5), 11n) * P1)
  }
  hash = word((hash ^ (hash >> 33n)) * P2)
  hash = word((hash ^ (hash >> 29n)) * P3)
  return hash ^ (hash >> 32n)
}
