import { cutBytes, decodeText } from '../../src/events/text.ts'

const LF = 10
const UTF8 = new TextDecoder('utf-8', { ignoreBOM: true })

/** Receives one line without its line feed; `raw` only where it is not valid UTF-8. */
export type LineSink = (message: string, raw?: Uint8Array) => void

/**
 * Splits a byte stream into lines ended by LF (spec system-api §7: CR, NUL and blanks stay, an
 * empty line is a line). A line over the limit is cut with a mark and the rest of it discarded, so
 * that memory is bounded by the limit and one chunk.
 *
 * Most chunks are plain ASCII in short lines: those are decoded at once and sliced.
 */
export class LineFramer {
  readonly #maxBytes: number
  readonly #sink: LineSink
  /** The beginning of a line whose end has not come: at most `maxBytes + 4` bytes. */
  #partial: Uint8Array[] = []
  #partialBytes = 0
  #inLine = false
  #lines = 0
  #cut = 0

  /** @param maxBytes Longest line passed on whole, without LF, in bytes. */
  constructor(maxBytes: number, sink: LineSink) {
    this.#maxBytes = maxBytes
    this.#sink = sink
  }

  /** Lines passed on. */
  get lines(): number {
    return this.#lines
  }

  /** Lines that were longer than the limit. */
  get cut(): number {
    return this.#cut
  }

  /** Takes the next bytes; they may be overwritten afterwards. */
  push(chunk: Uint8Array): void {
    let from = 0
    if (this.#inLine) {
      const end = chunk.indexOf(LF)
      this.#hold(chunk.subarray(0, end === -1 ? chunk.length : end))
      if (end === -1) return
      this.end()
      from = end + 1
    }
    const last = chunk.lastIndexOf(LF)
    if (last >= from) {
      this.#whole(chunk.subarray(from, last + 1))
      from = last + 1
    }
    if (from < chunk.length) this.#hold(chunk.subarray(from))
  }

  /** The stream ended: a line that lacks its line feed counts too. */
  end(): void {
    if (!this.#inLine) return
    const bytes = this.#partial.length === 1 ? this.#partial[0] : Buffer.concat(this.#partial)
    this.#partial = []
    this.#partialBytes = 0
    this.#inLine = false
    this.#line(bytes as Uint8Array)
  }

  /** Lines that are complete: `bytes` ends with LF. */
  #whole(bytes: Uint8Array): void {
    const text = UTF8.decode(bytes)
    // As many characters as bytes and none replaced: ASCII, so positions are the same in both.
    if (text.length !== bytes.length || text.includes('\uFFFD')) {
      this.#wholeBytes(bytes)
      return
    }
    for (let from = 0; from < text.length; ) {
      const end = text.indexOf('\n', from)
      if (end - from > this.#maxBytes) this.#line(bytes.subarray(from, end))
      else {
        this.#lines++
        this.#sink(text.slice(from, end))
      }
      from = end + 1
    }
  }

  #wholeBytes(bytes: Uint8Array): void {
    for (let from = 0; from < bytes.length; ) {
      const end = bytes.indexOf(LF, from)
      this.#line(bytes.subarray(from, end))
      from = end + 1
    }
  }

  #line(bytes: Uint8Array): void {
    this.#lines++
    if (bytes.length > this.#maxBytes) this.#cut++
    const { message, raw } = decodeText(cutBytes(bytes, this.#maxBytes))
    this.#sink(message, raw)
  }

  #hold(bytes: Uint8Array): void {
    this.#inLine = true
    // A character beyond the limit tells whether the line is too long and where it may be cut.
    const room = this.#maxBytes + 4 - this.#partialBytes
    if (room <= 0 || bytes.length === 0) return
    const kept = bytes.slice(0, room)
    this.#partial.push(kept)
    this.#partialBytes += kept.length
  }
}
