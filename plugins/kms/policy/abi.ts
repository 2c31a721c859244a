import { keccak_256 } from '@noble/hashes/sha3'
import { PolicyError } from './policy.ts'

/*
 * The part of the Solidity ABI ("Contract ABI Specification", formal specification of the encoding)
 * that the contracts of dstack use.
 */

const WORD = 32

/** A value in its encoding. A dynamic one stands behind the words of its tuple, which point to it. */
export interface AbiValue {
  readonly dynamic: boolean
  readonly bytes: Uint8Array
}

/** `bytes32`: exactly 32 bytes. `address`: 20 bytes, to be right-aligned. */
export function abiWord(value: Uint8Array): AbiValue {
  if (value.length > WORD) {
    throw new RangeError(`Cannot encode ${value.length} bytes: a word has ${WORD}`)
  }
  const bytes = new Uint8Array(WORD)
  bytes.set(value, WORD - value.length)
  return { dynamic: false, bytes }
}

/** `string`. */
export function abiString(text: string): AbiValue {
  const content = new TextEncoder().encode(text)
  const padded = new Uint8Array(Math.ceil(content.length / WORD) * WORD)
  padded.set(content)
  return { dynamic: true, bytes: Buffer.concat([count(content.length), padded]) }
}

/** `T[]` of values of one type. */
export function abiArray(items: readonly AbiValue[]): AbiValue {
  return { dynamic: true, bytes: Buffer.concat([count(items.length), abiTuple(items).bytes]) }
}

/** A struct, or the arguments of a function. */
export function abiTuple(items: readonly AbiValue[]): AbiValue {
  const heads: Uint8Array[] = []
  const tails: Uint8Array[] = []
  let end = items.reduce((sum, { dynamic, bytes }) => sum + (dynamic ? WORD : bytes.length), 0)
  for (const { dynamic, bytes } of items) {
    heads.push(dynamic ? count(end) : bytes)
    if (!dynamic) continue
    tails.push(bytes)
    end += bytes.length
  }
  const dynamic = items.some((item) => item.dynamic)
  return { dynamic, bytes: Buffer.concat([...heads, ...tails]) }
}

/** The four bytes that name a function: `isAppAllowed((address,…))`. */
export function abiSelector(signature: string): Uint8Array {
  return keccak_256(signature).subarray(0, 4)
}

function count(value: number): Uint8Array {
  const bytes = new Uint8Array(WORD)
  new DataView(bytes.buffer).setUint32(WORD - 4, value)
  return bytes
}

/**
 * Reads what a function returned: a tuple that begins with its words. Every method takes the place
 * of a word in the tuple.
 *
 * @throws {PolicyError} `POLICY_MALFORMED`, from every method.
 */
export class AbiReader {
  readonly #bytes: Uint8Array

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  /** 32 bytes. */
  word(place: number): Uint8Array {
    return this.#take(place * WORD, WORD)
  }

  bool(place: number): boolean {
    const value = this.#number(place * WORD)
    if (value > 1) throw malformed(`${value} is no truth value`)
    return value === 1
  }

  /** 20 bytes. */
  address(place: number): Uint8Array {
    const word = this.word(place)
    if (word.subarray(0, 12).some((byte) => byte !== 0)) throw malformed('an address is too long')
    return word.subarray(12)
  }

  /** Whatever in it is no UTF-8 becomes U+FFFD: contracts cut their texts anywhere. */
  string(place: number): string {
    const at = this.#number(place * WORD)
    const length = this.#number(at)
    return new TextDecoder().decode(this.#take(at + WORD, length))
  }

  #number(at: number): number {
    const word = this.#take(at, WORD)
    if (word.subarray(0, WORD - 4).some((byte) => byte !== 0))
      throw malformed('a length is too big')
    return new DataView(word.buffer, word.byteOffset).getUint32(WORD - 4)
  }

  #take(at: number, length: number): Uint8Array {
    const have = this.#bytes.length
    if (length > have || at > have - length) {
      throw malformed(`${length} bytes at ${at} of ${have}`)
    }
    return this.#bytes.subarray(at, at + length)
  }
}

function malformed(why: string): PolicyError {
  return new PolicyError('POLICY_MALFORMED', `Cannot read the contract's answer: ${why}`)
}
