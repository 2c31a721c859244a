import { EvidenceError } from './evidence-error.ts'

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Of a value under an unknown key: maps and arrays in one another, and values in all. */
const MAX_DEPTH = 16
const MAX_SKIPPED = 100_000

/** Of one map; the largest has seven. */
const MAX_KEYS = 16
const MAX_KEY_BYTES = 64

/**
 * Reads MessagePack against a schema: the caller says which type comes next, so that no length or
 * nesting in the input is believed before there is a use for it. (A decoder that builds whatever
 * it is told can be made to allocate gigabytes by a few bytes.)
 *
 * Everything throws {@link EvidenceError}: `MESSAGE_PACK_TYPE`, `MESSAGE_PACK_TRUNCATED`,
 * `MESSAGE_PACK_LIMIT`, `MESSAGE_PACK_TEXT`, `MESSAGE_PACK_KEY`, `TRAILING_BYTES`.
 */
export class MessagePackReader {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  #at = 0
  #skipped = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  /** A non-negative integer of at most 32 bits. */
  uint(): number {
    const tag = this.#uint(1)
    if (tag < 0x80) return tag
    if (tag === 0xcc) return this.#uint(1)
    if (tag === 0xcd) return this.#uint(2)
    if (tag === 0xce) return this.#uint(4)
    throw this.#wrong(tag, 'an unsigned integer')
  }

  text(most: number): string {
    const tag = this.#uint(1)
    if (!isText(tag)) throw this.#wrong(tag, 'text')
    return this.#decoded(this.#take(this.#length(tag, most)))
  }

  #decoded(bytes: Uint8Array): string {
    try {
      return UTF8.decode(bytes)
    } catch {
      throw this.#error('MESSAGE_PACK_TEXT', 'a text is not UTF-8')
    }
  }

  /** Binary data, or an array of integers, as which Rust's serde writes a plain `Vec<u8>`. */
  bytes(most: number): Uint8Array {
    const tag = this.#uint(1)
    if (tag >= 0xc4 && tag <= 0xc6) return this.#take(this.#length(tag, most))
    if (!isArray(tag)) throw this.#wrong(tag, 'bytes')
    const bytes = new Uint8Array(this.#elements(tag, most))
    for (let i = 0; i < bytes.length; i++) {
      // All but always one of two forms, and there may be millions.
      const first = this.#bytes[this.#at] ?? 0
      const value = first < 0x80 ? first : first === 0xcc ? this.#bytes[this.#at + 1] : undefined
      if (value === undefined) bytes[i] = this.#byte()
      else {
        bytes[i] = value
        this.#at += first < 0x80 ? 1 : 2
      }
    }
    if (this.#at > this.#bytes.length) throw this.#truncated()
    return bytes
  }

  /** An integer in any form, that fits into a byte. */
  #byte(): number {
    const value = this.uint()
    if (value <= 0xff) return value
    throw this.#error('MESSAGE_PACK_TYPE', `${value} stands for a byte`)
  }

  list<T>(most: number, read: () => T): T[] {
    const tag = this.#uint(1)
    if (!isArray(tag)) throw this.#wrong(tag, 'an array')
    return Array.from({ length: this.#elements(tag, most) }, read)
  }

  /**
   * A map with text keys. Values of keys that have no reader are passed over.
   *
   * @throws {EvidenceError} `MESSAGE_PACK_KEY` when a key comes twice.
   */
  map(readers: Readonly<Record<string, () => void>>): void {
    const tag = this.#uint(1)
    if (!isMap(tag)) throw this.#wrong(tag, 'a map')
    const seen = new Set<string>()
    for (let left = this.#elements(tag, MAX_KEYS); left > 0; left--) {
      const key = this.#key()
      if (seen.has(key)) throw this.#error('MESSAGE_PACK_KEY', `the key "${key}" comes twice`)
      seen.add(key)
      if (Object.hasOwn(readers, key)) readers[key]?.()
      else this.#skip(0)
    }
  }

  /** There may be very many, and to start a decoder for each takes long. */
  #key(): string {
    const tag = this.#uint(1)
    if (!isText(tag)) throw this.#wrong(tag, 'text')
    const bytes = this.#take(this.#length(tag, MAX_KEY_BYTES))
    const isAscii = bytes.every((octet) => octet < 0x80)
    return isAscii ? String.fromCharCode(...bytes) : this.#decoded(bytes)
  }

  end(): void {
    const left = this.#bytes.length - this.#at
    if (left > 0) throw this.#error('TRAILING_BYTES', `${left} bytes follow its end`)
  }

  #skip(depth: number): void {
    if (depth > MAX_DEPTH || this.#skipped++ > MAX_SKIPPED) {
      throw this.#error('MESSAGE_PACK_LIMIT', 'there is too much under an unknown key')
    }
    const tag = this.#uint(1)
    if (isMap(tag) || isArray(tag)) {
      const each = isMap(tag) ? 2 : 1
      const count = each * this.#elements(tag, this.#bytes.length)
      for (let i = 0; i < count; i++) this.#skip(depth + 1)
    } else if (isText(tag) || (tag >= 0xc4 && tag <= 0xc6)) {
      this.#take(this.#length(tag, this.#bytes.length))
    } else if (tag >= 0xca && tag <= 0xd3) this.#take(NUMBER_BYTES[tag - 0xca] as number)
    else if (tag >= 0x80 && tag < 0xe0 && (tag < 0xc0 || tag === 0xc1 || tag > 0xc3)) {
      throw this.#wrong(tag, 'a value without extensions')
    }
  }

  /** Length of a text or binary whose tag was read. */
  #length(tag: number, most: number): number {
    const size = tag < 0xc0 ? 0 : 1 << (tag <= 0xc6 ? tag - 0xc4 : tag - 0xd9)
    return this.#bounded(size === 0 ? tag & 0x1f : this.#uint(size as 1 | 2 | 4), most, 'bytes')
  }

  /** Elements of an array, or pairs of a map, whose tag was read. Each takes a byte at least. */
  #elements(tag: number, most: number): number {
    const count = tag < 0xc0 ? tag & 0x0f : this.#uint(tag % 2 === 0 ? 2 : 4)
    if (count > this.#bytes.length - this.#at) throw this.#truncated()
    return this.#bounded(count, most, 'elements')
  }

  #bounded(length: number, most: number, of: string): number {
    if (length <= most) return length
    throw this.#error('MESSAGE_PACK_LIMIT', `${length} ${of}, at most ${most}`)
  }

  #uint(size: 1 | 2 | 4): number {
    const at = this.#at
    this.#take(size)
    if (size === 1) return this.#view.getUint8(at)
    return size === 2 ? this.#view.getUint16(at) : this.#view.getUint32(at)
  }

  #take(length: number): Uint8Array {
    if (length > this.#bytes.length - this.#at) throw this.#truncated()
    this.#at += length
    return this.#bytes.subarray(this.#at - length, this.#at)
  }

  #truncated(): EvidenceError {
    return this.#error('MESSAGE_PACK_TRUNCATED', 'it ends before its contents do')
  }

  #wrong(tag: number, wanted: string): EvidenceError {
    return this.#error('MESSAGE_PACK_TYPE', `type 0x${tag.toString(16)} instead of ${wanted}`)
  }

  #error(code: string, what: string): EvidenceError {
    return new EvidenceError(code, `Cannot read attestation at offset ${this.#at}: ${what}`)
  }
}

/** Bytes after the tags 0xca to 0xd3: floats and integers. */
const NUMBER_BYTES = [4, 8, 1, 2, 4, 8, 1, 2, 4, 8] as const

const isText = (tag: number): boolean => (tag >= 0xa0 && tag < 0xc0) || (tag >= 0xd9 && tag <= 0xdb)
const isArray = (tag: number): boolean =>
  (tag >= 0x90 && tag < 0xa0) || tag === 0xdc || tag === 0xdd
const isMap = (tag: number): boolean => (tag >= 0x80 && tag < 0x90) || tag === 0xde || tag === 0xdf
