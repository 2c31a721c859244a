import { decodeCbor } from '../attest/nitro/cbor.ts'

/** A refusal by the module itself, under the name it answers with (spec nitro §2). */
export class Refusal extends Error {
  override readonly name = 'Refusal'
  readonly code: 'InvalidOperation' | 'InvalidIndex' | 'ReadOnlyIndex' | 'InputTooLarge'

  constructor(code: Refusal['code']) {
    super(`The module answers ${code}`)
    this.code = code
  }
}

/** A request to the module, taken apart. */
export interface NsmRequest {
  readonly operation: string
  /** Undefined for an operation written as a bare name. */
  readonly given: NsmArguments | undefined
}

/**
 * Reads a request: the name of an operation, or a map of one name to its arguments.
 *
 * @throws {Refusal} `InvalidOperation` for anything else.
 */
export function readRequest(bytes: Uint8Array): NsmRequest {
  const request = decodeRequest(bytes)
  if (typeof request === 'string') return { operation: request, given: undefined }
  if (request instanceof Map && request.size === 1) {
    const [[operation, given] = []] = request
    if (typeof operation === 'string' && given instanceof Map) {
      return { operation, given: new NsmArguments(given) }
    }
  }
  throw new Refusal('InvalidOperation')
}

function decodeRequest(bytes: Uint8Array): unknown {
  try {
    return decodeCbor(bytes, 'NSM request')
  } catch {
    throw new Refusal('InvalidOperation')
  }
}

/** The arguments of an operation. Whatever is wrong with them is `InvalidOperation`. */
export class NsmArguments {
  readonly #given: ReadonlyMap<unknown, unknown>

  constructor(given: ReadonlyMap<unknown, unknown>) {
    this.#given = given
  }

  /** @throws {Refusal} When there is an argument of another name. */
  only(...names: readonly unknown[]): this {
    if ([...this.#given.keys()].some((name) => !names.includes(name))) {
      throw new Refusal('InvalidOperation')
    }
    return this
  }

  /** An unsigned 16-bit integer that must be there. */
  u16(name: string): number {
    const value = this.#given.get(name)
    if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 0xffff) {
      return value
    }
    throw new Refusal('InvalidOperation')
  }

  /** Bytes that must be there; none is a length too. */
  bytes(name: string): Uint8Array {
    const value = this.#given.get(name)
    if (value instanceof Uint8Array) return value
    throw new Refusal('InvalidOperation')
  }

  /** Bytes; null when they are null or not given at all. */
  optionalBytes(name: string): Uint8Array | null {
    return (this.#given.get(name) ?? null) === null ? null : this.bytes(name)
  }
}
