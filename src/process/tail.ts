const FIRST_SIZE = 1024

/**
 * The last bytes of a stream of any length, in constant memory: it grows to `capacity` bytes and
 * is a ring from then on. Offsets count from the first byte ever pushed.
 */
export class Tail {
  readonly #capacity: number
  #buffer: Buffer
  #end = 0

  /** @param capacity Bytes kept; 0 keeps none and only counts. */
  constructor(capacity: number) {
    this.#capacity = capacity
    this.#buffer = Buffer.alloc(Math.min(capacity, FIRST_SIZE))
  }

  /** Offset of the oldest byte kept; above 0 once something was dropped. */
  get start(): number {
    return Math.max(0, this.#end - this.#capacity)
  }

  /** Offset after the newest byte: the number of bytes ever pushed. */
  get end(): number {
    return this.#end
  }

  /** Bytes kept. */
  get size(): number {
    return this.#end - this.start
  }

  push(chunk: Uint8Array): void {
    this.#grow(this.#end + chunk.byteLength)
    const kept = chunk.subarray(Math.max(0, chunk.byteLength - this.#capacity))
    this.#end += chunk.byteLength
    if (kept.byteLength === 0) return
    const at = (this.#end - kept.byteLength) % this.#buffer.length
    const room = this.#buffer.length - at
    this.#buffer.set(kept.subarray(0, room), at)
    this.#buffer.set(kept.subarray(room), 0)
  }

  /** A copy of the bytes kept from offset `from` on. */
  bytes(from = 0): Buffer {
    const first = Math.max(from, this.start)
    if (first >= this.#end) return Buffer.alloc(0)
    const at = first % this.#buffer.length
    const size = this.#end - first
    const head = this.#buffer.subarray(at, at + size)
    return Buffer.concat([head, this.#buffer.subarray(0, size - head.length)])
  }

  /** The bytes kept as UTF-8 text, without the rest of a character that was cut at the start. */
  text(): string {
    const bytes = this.bytes()
    let skip = 0
    if (this.start > 0) {
      while (skip < 3 && skip < bytes.length && ((bytes[skip] ?? 0) & 0xc0) === 0x80) skip++
    }
    return bytes.toString('utf8', skip)
  }

  /** Gives back the memory beyond the bytes kept; for a stream that ended. */
  trim(): void {
    if (this.#end < this.#buffer.length) this.#resize(this.#end)
  }

  #grow(needed: number): void {
    const length = this.#buffer.length
    if (needed <= length || length === this.#capacity) return
    this.#resize(Math.min(this.#capacity, Math.max(needed, length * 2)))
  }

  /** Only before the ring wraps, while every offset is its own place. */
  #resize(length: number): void {
    const buffer = Buffer.alloc(length)
    this.#buffer.copy(buffer, 0, 0, Math.min(this.#end, length))
    this.#buffer = buffer
  }
}
