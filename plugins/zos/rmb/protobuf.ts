// The part of protocol buffers that envelopes need (protobuf.dev/programming-guides/encoding).

/** One field as it stands on the wire; groups, which proto3 does not have, are refused. */
export type Field =
  | { readonly number: number; readonly type: 'varint'; readonly value: bigint }
  | { readonly number: number; readonly type: 'bytes'; readonly value: Uint8Array }
  /** Four or eight bytes, which no field of an envelope has. */
  | { readonly number: number; readonly type: 'fixed' }

/** Bytes that are no message. */
export class ProtobufError extends Error {
  override readonly name = 'ProtobufError'
}

/**
 * The fields of a message in the order they come, unknown ones too. Values are views of `bytes`.
 *
 * @throws {ProtobufError}
 */
export function* readFields(bytes: Uint8Array): Generator<Field> {
  let at = 0
  const varint = (): bigint => {
    let value = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = bytes[at++]
      if (byte === undefined) throw malformed('a number is cut off')
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return BigInt.asUintN(64, value)
    }
    throw malformed('a number has more than ten bytes')
  }
  const take = (count: bigint): Uint8Array => {
    const start = at
    if (count > BigInt(bytes.length - at)) {
      throw malformed(`a field of ${count} bytes has ${bytes.length - at}`)
    }
    at += Number(count)
    return bytes.subarray(start, at)
  }
  while (at < bytes.length) {
    const tag = varint()
    const number = Number(tag >> 3n)
    if (number === 0 || number >= 2 ** 29) throw malformed(`there is no field ${number}`)
    switch (Number(tag & 7n)) {
      case 0:
        yield { number, type: 'varint', value: varint() }
        break
      case 1:
        take(8n)
        yield { number, type: 'fixed' }
        break
      case 2:
        yield { number, type: 'bytes', value: take(varint()) }
        break
      case 5:
        take(4n)
        yield { number, type: 'fixed' }
        break
      default:
        throw malformed(`field ${number} has wire type ${tag & 7n}`)
    }
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * Text of a field, to the byte.
 *
 * @throws {ProtobufError} When it is no UTF-8.
 */
export function readText(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes)
  } catch (cause) {
    throw new ProtobufError('Cannot read envelope: a text is not UTF-8', { cause })
  }
}

/** Writes a message; fields come out in the order they are added. */
export class MessageWriter {
  readonly #chunks: Uint8Array[] = []

  varint(number: number, value: bigint): this {
    this.#chunks.push(varintOf(BigInt(number << 3)), varintOf(value))
    return this
  }

  bytes(number: number, value: Uint8Array): this {
    this.#chunks.push(varintOf(BigInt((number << 3) | 2)), varintOf(BigInt(value.length)), value)
    return this
  }

  text(number: number, value: string): this {
    return this.bytes(number, new TextEncoder().encode(value))
  }

  finish(): Uint8Array {
    return joined(this.#chunks)
  }
}

/** Bytes one after another. */
export function joined(chunks: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(chunks.reduce((length, chunk) => length + chunk.length, 0))
  let at = 0
  for (const chunk of chunks) {
    all.set(chunk, at)
    at += chunk.length
  }
  return all
}

function varintOf(value: bigint): Uint8Array {
  const bytes: number[] = []
  let rest = BigInt.asUintN(64, value)
  while (rest >= 0x80n) {
    bytes.push(Number(rest & 0x7fn) | 0x80)
    rest >>= 7n
  }
  bytes.push(Number(rest))
  return Uint8Array.from(bytes)
}

function malformed(reason: string): ProtobufError {
  return new ProtobufError(`Cannot read envelope: ${reason}`)
}
