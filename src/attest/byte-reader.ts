import { EvidenceError } from './evidence-error.ts'

/** Reads bytes from front to back; nothing is taken before it is known to be there. */
export class ByteReader {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  readonly #what: string
  #at = 0

  /** @param what Names the data in errors: `CCEL`, `attestation`. */
  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#what = what
  }

  /** Where the next byte is read. */
  get offset(): number {
    return this.#at
  }

  get remaining(): number {
    return this.#bytes.length - this.#at
  }

  /** The next byte, without taking it; undefined at the end. */
  peek(): number | undefined {
    return this.#bytes[this.#at]
  }

  /**
   * A view of the next `length` bytes.
   *
   * @throws {EvidenceError} `TRUNCATED`, as all that follow.
   */
  take(length: number): Uint8Array {
    const from = this.#advance(length)
    return this.#bytes.subarray(from, from + length)
  }

  u8(): number {
    return this.#view.getUint8(this.#advance(1))
  }

  /** Little-endian. */
  u16(): number {
    return this.#view.getUint16(this.#advance(2), true)
  }

  /** Little-endian. */
  u32(): number {
    return this.#view.getUint32(this.#advance(4), true)
  }

  /** Little-endian. */
  u64(): bigint {
    return this.#view.getBigUint64(this.#advance(8), true)
  }

  #advance(length: number): number {
    const from = this.#at
    if (length > this.remaining) {
      throw new EvidenceError(
        'TRUNCATED',
        `Cannot read ${this.#what}: ${length} bytes are wanted at offset ${from}, ${this.remaining} are left`,
      )
    }
    this.#at += length
    return from
  }
}
