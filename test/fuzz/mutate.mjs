// Changes bytes the way broken and hostile senders do. Deterministic for a given random source.

/** Values at which parsers tend to err: signs, ends of types, lengths just past the end. */
const NUMBERS = [0, 1, 2, 3, 4, 5, 6, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x7fffffff]

/** A small generator with a state of 32 bits (mulberry32), so that a run can be repeated. */
export function randomSource(seed) {
  let state = seed >>> 0
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % below
  }
}

/** One to four changes of `bytes`; `other` is a second input to take pieces from. */
export function mutate(bytes, other, random, maxBytes) {
  let result = Buffer.from(bytes)
  for (let i = 1 + random(4); i > 0; i--)
    result = CHANGES[random(CHANGES.length)](result, other, random)
  return result.subarray(0, maxBytes)
}

const at = (bytes, random) => random(bytes.length + 1)

const CHANGES = [
  function flipBit(bytes, _other, random) {
    if (bytes.length > 0) bytes[random(bytes.length)] ^= 1 << random(8)
    return bytes
  },
  function setByte(bytes, _other, random) {
    if (bytes.length > 0) bytes[random(bytes.length)] = random(256)
    return bytes
  },
  function setNumber(bytes, _other, random) {
    const width = [1, 2, 4][random(3)]
    if (bytes.length < width) return bytes
    const value = NUMBERS[random(NUMBERS.length)] % 2 ** (8 * width)
    const where = random(bytes.length - width + 1)
    if (random(2) === 0) bytes.writeUIntLE(value, where, width)
    else bytes.writeUIntBE(value, where, width)
    return bytes
  },
  function cut(bytes, _other, random) {
    return bytes.subarray(0, at(bytes, random))
  },
  function remove(bytes, _other, random) {
    const from = at(bytes, random)
    return Buffer.concat([bytes.subarray(0, from), bytes.subarray(from + 1 + random(32))])
  },
  function repeat(bytes, _other, random) {
    const from = at(bytes, random)
    const piece = bytes.subarray(from, from + 1 + random(64))
    return Buffer.concat([bytes.subarray(0, from), piece, bytes.subarray(from)])
  },
  function splice(bytes, other, random) {
    return Buffer.concat([bytes.subarray(0, at(bytes, random)), other.subarray(at(other, random))])
  },
  function graft(bytes, other, random) {
    const where = at(bytes, random)
    const from = at(other, random)
    const piece = other.subarray(from, from + 1 + random(64))
    return Buffer.concat([bytes.subarray(0, where), piece, bytes.subarray(where + piece.length)])
  },
]
