/** Lines on their way, within bounds: the oldest give way, and are counted. */
export interface LineBuffer {
  /** Bytes, line ends included. */
  readonly size: number
  /** Lines that gave way, ever. */
  readonly dropped: number
  push(line: string): void
  /** Takes the oldest lines, as one chunk; undefined when there is none. */
  take(): Uint8Array | undefined
}

/** Most of it is taken at once. */
const MAX_CHUNK_BYTES = 64 * 1024

/**
 * @param maxBytes Of all lines; a line longer than half of it is cut.
 * @param note What is said where lines are missing.
 */
export function createLineBuffer(
  maxBytes: number,
  note = (lines: number) => `[${lines} lines were dropped]`,
): LineBuffer {
  const encoder = new TextEncoder()
  let lines: Uint8Array[] = []
  /** Of those, what is gone: arrays are not shifted line by line. */
  let first = 0
  let size = 0
  let dropped = 0
  let untold = 0

  const shift = (): Uint8Array | undefined => {
    const line = lines[first]
    if (!line) return undefined
    first++
    size -= line.length
    if (first > 1024 && first * 2 > lines.length) {
      lines = lines.slice(first)
      first = 0
    }
    return line
  }

  return {
    get size() {
      return size
    },
    get dropped() {
      return dropped
    },
    push(line) {
      const bytes = encoder.encode(`${line}\n`)
      const kept = bytes.subarray(0, Math.floor(maxBytes / 2))
      if (kept.length < bytes.length) kept[kept.length - 1] = 10
      lines.push(kept)
      size += kept.length
      while (size > maxBytes) {
        shift()
        dropped++
        untold++
      }
    },
    take() {
      const parts: Uint8Array[] = []
      if (untold > 0) parts.push(encoder.encode(`${note(untold)}\n`))
      untold = 0
      let length = parts[0]?.length ?? 0
      for (let next = lines[first]; next; next = lines[first]) {
        if (parts.length > 0 && length + next.length > MAX_CHUNK_BYTES) break
        shift()
        parts.push(next)
        length += next.length
      }
      if (parts.length === 0) return undefined
      const chunk = new Uint8Array(length)
      let at = 0
      for (const part of parts) {
        chunk.set(part, at)
        at += part.length
      }
      return chunk
    },
  }
}
