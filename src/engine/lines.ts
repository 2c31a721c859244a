const LF = 10

/** A line without its line feed. */
export interface ByteLine {
  readonly bytes: Buffer
  /** It was longer than the limit, and its rest is gone. */
  readonly cut: boolean
}

/** Splits bytes into lines ended by LF, in memory bounded by the limit and one chunk. */
export interface LineSplitter {
  /** Bytes of the line whose end has not come, those that were dropped included. */
  readonly pending: number
  /** The lines that this chunk completes. */
  push(chunk: Buffer): ByteLine[]
  /** The line that lacks its end, if there is one. */
  end(): ByteLine[]
}

/** @param maxBytes Longest line kept whole, without its line feed. */
export function createLineSplitter(maxBytes: number): LineSplitter {
  let parts: Buffer[] = []
  let size = 0
  let begun = false

  const hold = (bytes: Buffer) => {
    begun = true
    const kept = bytes.subarray(0, Math.max(0, maxBytes - Math.min(size, maxBytes)))
    // A copy: the chunk may be large, and its owner may use it again.
    if (kept.length > 0) parts.push(Buffer.from(kept))
    size += bytes.length
  }
  const finish = (): ByteLine => {
    const line = { bytes: Buffer.concat(parts), cut: size > maxBytes }
    parts = []
    size = 0
    begun = false
    return line
  }

  return {
    get pending() {
      return size
    },
    push(chunk) {
      const lines: ByteLine[] = []
      let from = 0
      for (let at = chunk.indexOf(LF); at !== -1; at = chunk.indexOf(LF, from)) {
        hold(chunk.subarray(from, at))
        lines.push(finish())
        from = at + 1
      }
      if (from < chunk.length) hold(chunk.subarray(from))
      return lines
    },
    end: () => (begun ? [finish()] : []),
  }
}
