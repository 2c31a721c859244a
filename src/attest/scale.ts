import { ByteReader } from './byte-reader.ts'
import { EvidenceError } from './evidence-error.ts'

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** SCALE, the codec of dstack's first attestation format: compact lengths, little-endian numbers. */
export class ScaleReader extends ByteReader {
  readonly #what: string

  constructor(bytes: Uint8Array, what: string) {
    super(bytes, what)
    this.#what = what
  }

  /**
   * A compact integer below 2^30, which is ample for a length; the low two bits say how many bytes
   * it has, and no longer form than needed is taken, so that what was read is written the same.
   *
   * @throws {EvidenceError} `SCALE_COMPACT`, `TRUNCATED`.
   */
  compact(): number {
    const mode = (this.peek() ?? 0) & 3
    const value =
      mode === 0
        ? this.u8() >>> 2
        : mode === 1
          ? this.u16() >>> 2
          : mode === 2
            ? this.u32() >>> 2
            : -1
    if (value < (mode === 1 ? 1 << 6 : mode === 2 ? 1 << 14 : 0)) {
      throw this.error('SCALE_COMPACT', 'a length is not in its shortest form, or is 2^30 or more')
    }
    return value
  }

  /**
   * Bytes with their length before them.
   *
   * @throws {EvidenceError} `SCALE_COMPACT`, `TRUNCATED`, as {@link text} and {@link list}.
   */
  bytes(): Uint8Array {
    return this.take(this.compact())
  }

  /** @throws {EvidenceError} `SCALE_TEXT` for bytes that are not UTF-8. */
  text(): string {
    const bytes = this.bytes()
    try {
      return UTF8.decode(bytes)
    } catch {
      throw this.error('SCALE_TEXT', 'a text is not UTF-8')
    }
  }

  /**
   * Elements with their count before them.
   *
   * @param most Elements allowed; more is refused before any is read.
   * @throws {EvidenceError} `SCALE_COUNT`.
   */
  list<T>(most: number, read: () => T): T[] {
    const count = this.compact()
    if (count > most) throw this.error('SCALE_COUNT', `${count} elements, at most ${most}`)
    return Array.from({ length: count }, read)
  }

  /** @throws {EvidenceError} `TRAILING_BYTES` when anything is left. */
  end(): void {
    if (this.remaining === 0) return
    throw this.error('TRAILING_BYTES', `${this.remaining} bytes follow its end`)
  }

  protected error(code: string, what: string): EvidenceError {
    return new EvidenceError(code, `Cannot read ${this.#what} at offset ${this.offset}: ${what}`)
  }
}

/** Collects what {@link ScaleReader} reads. */
export class ScaleWriter {
  readonly #parts: Uint8Array[] = []

  u8(value: number): this {
    return this.raw(Uint8Array.of(value))
  }

  u32(value: number): this {
    return this.raw(littleEndian(value, 4))
  }

  /** @throws {RangeError} For 2^30 and more. */
  compact(value: number): this {
    if (value < 1 << 6) return this.u8(value << 2)
    if (value < 1 << 14) return this.raw(littleEndian((value << 2) | 1, 2))
    if (value < 2 ** 30) return this.raw(littleEndian(value * 4 + 2, 4))
    throw new RangeError(`Cannot write length ${value}: it is 2^30 or more`)
  }

  /** Bytes without a length. */
  raw(bytes: Uint8Array): this {
    this.#parts.push(bytes)
    return this
  }

  bytes(bytes: Uint8Array): this {
    return this.compact(bytes.length).raw(bytes)
  }

  text(text: string): this {
    return this.bytes(Buffer.from(text))
  }

  list<T>(items: readonly T[], write: (item: T) => void): this {
    this.compact(items.length)
    for (const item of items) write(item)
    return this
  }

  finish(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.#parts))
  }
}

function littleEndian(value: number, length: number): Uint8Array {
  const bytes = Buffer.alloc(length)
  bytes.writeUIntLE(value, 0, length)
  return bytes
}
