import { EngineError } from './error.ts'
import { type ByteLine, createLineSplitter } from './lines.ts'

/** One line a container wrote. */
export interface LogLine {
  /** With a terminal both are one, `stdout`. */
  readonly stream: 'stdout' | 'stderr'
  /**
   * When the engine got it: RFC 3339 with up to nine digits of a second. Absent if unknown, as it
   * is for containers with a terminal on Podman.
   */
  readonly time?: string
  /** Without its line end; bytes that are not UTF-8 are replaced. */
  readonly text: string
  /** It was longer than the limit, and its rest is gone. */
  readonly cut: boolean
}

/** Reads what the engine sends as a container's logs. */
export interface LogDecoder {
  /**
   * The lines that this chunk completes.
   *
   * @throws {EngineError} `ENGINE_MALFORMED` for what is no frame; `ENGINE_FAILED` with the words
   *   of a frame in which the engine reports its own failure.
   */
  push(chunk: Buffer): LogLine[]
  /** The lines that lack their ends. */
  end(): LogLine[]
}

export interface LogDecoderOptions {
  /** For errors. */
  readonly action: string
  /** Longest text kept whole, in bytes. */
  readonly maxLineBytes: number
  /** Lines begin with the time and a blank. */
  readonly timestamps: boolean
}

const HEADER_BYTES = 8
/** A time with nine digits and an offset has 35 characters; and the blank. */
const STAMP_BYTES = 36
const STAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)$/

/** Docker keeps a line in parts of this size, and puts a time before each. */
const PART_BYTES = 16_384

/** Of a container with a terminal: raw text, its lines ended by CR LF. */
export function createRawDecoder(options: LogDecoderOptions): LogDecoder {
  const { maxLineBytes, timestamps } = options
  const parts = Math.floor(maxLineBytes / PART_BYTES) + 1
  const splitter = createLineSplitter(maxLineBytes + parts * STAMP_BYTES)
  const toLine = ({ bytes, cut }: ByteLine): LogLine => {
    if (!timestamps) return lineOf('stdout', undefined, bytes, cut, maxLineBytes)
    const { time, rest } = takeStamp(bytes)
    return lineOf('stdout', time, withoutStamps(rest), cut, maxLineBytes)
  }
  return {
    push: (chunk) => splitter.push(chunk).map(toLine),
    end: () => splitter.end().map(toLine),
  }
}

function withoutStamps(line: Buffer): Buffer {
  if (line.length <= PART_BYTES) return line
  const parts: Buffer[] = []
  let left = line
  while (left.length > PART_BYTES) {
    parts.push(left.subarray(0, PART_BYTES))
    left = takeStamp(left.subarray(PART_BYTES)).rest
  }
  return Buffer.concat([...parts, left])
}

/**
 * Of a container without a terminal: frames of 8 bytes (stream 1 or 2, three zeros, length in four
 * bytes, the highest first) and the data. A frame is one message; a long line comes in several, of
 * which only the last ends with LF, and each begins with the time.
 */
export function createFrameDecoder(options: LogDecoderOptions): LogDecoder {
  const { action, maxLineBytes } = options
  const limit = maxLineBytes + STAMP_BYTES
  const header = Buffer.alloc(HEADER_BYTES)
  let headerSize = 0
  let frame:
    | { readonly kind: number; left: number; readonly parts: Buffer[]; room: number }
    | undefined
  const pending = {
    stdout: undefined as Pending | undefined,
    stderr: undefined as Pending | undefined,
  }

  const take = (stream: LogLine['stream'], data: Buffer, cut: boolean, lines: LogLine[]) => {
    for (let from = 0; from < data.length || (cut && from === data.length); ) {
      const end = data.indexOf(10, from)
      const piece = data.subarray(from, end === -1 ? data.length : end)
      const { time, rest } = options.timestamps
        ? takeStamp(piece)
        : { time: undefined, rest: piece }
      pending[stream] = append(pending[stream], time, rest, maxLineBytes)
      // The end of what was cut is unknown: it counts as one.
      if (end === -1 && !cut) return
      const line = pending[stream] as Pending
      pending[stream] = undefined
      const text = Buffer.concat(line.parts)
      lines.push(lineOf(stream, line.time, text, (cut && end === -1) || line.cut, maxLineBytes))
      if (end === -1) return
      from = end + 1
    }
  }

  const finish = (kind: number, parts: readonly Buffer[], cut: boolean, lines: LogLine[]) => {
    const data = Buffer.concat(parts)
    if (kind === 3) {
      const words = data.toString().trim().slice(0, 200)
      throw new EngineError('ENGINE_FAILED', action, `the engine says: ${words}`)
    }
    take(kind === 2 ? 'stderr' : 'stdout', data, cut, lines)
  }

  return {
    push(chunk) {
      const lines: LogLine[] = []
      for (let from = 0; from < chunk.length; ) {
        if (frame === undefined) {
          const taken = chunk.copy(header, headerSize, from, from + HEADER_BYTES - headerSize)
          from += taken
          headerSize += taken
          if (headerSize < HEADER_BYTES) break
          headerSize = 0
          const kind = header[0] as number
          if (kind > 3 || header.readUIntBE(1, 3) !== 0) {
            throw new EngineError('ENGINE_MALFORMED', action, 'the log is not made of frames')
          }
          frame = { kind, left: header.readUInt32BE(4), parts: [], room: limit }
        }
        const data = chunk.subarray(from, from + frame.left)
        from += data.length
        frame.left -= data.length
        const kept = data.subarray(0, Math.max(0, frame.room))
        if (kept.length > 0) frame.parts.push(Buffer.from(kept))
        frame.room -= data.length
        if (frame.left > 0) continue
        const { kind, parts, room } = frame
        frame = undefined
        finish(kind, parts, room < 0, lines)
      }
      return lines
    },
    end() {
      const lines: LogLine[] = []
      for (const stream of ['stdout', 'stderr'] as const) {
        const line = pending[stream]
        pending[stream] = undefined
        if (!line) continue
        lines.push(lineOf(stream, line.time, Buffer.concat(line.parts), line.cut, maxLineBytes))
      }
      return lines
    },
  }
}

/** A line whose end has not come. */
interface Pending {
  readonly time: string | undefined
  readonly parts: Buffer[]
  size: number
  cut: boolean
}

function append(
  line: Pending | undefined,
  time: string | undefined,
  bytes: Buffer,
  maxBytes: number,
): Pending {
  const to = line ?? { time, parts: [], size: 0, cut: false }
  const kept = bytes.subarray(0, maxBytes - to.size)
  if (kept.length > 0) to.parts.push(kept)
  to.size += kept.length
  to.cut ||= kept.length < bytes.length
  return to
}

function takeStamp(bytes: Buffer): { readonly time: string | undefined; readonly rest: Buffer } {
  const end = bytes.subarray(0, STAMP_BYTES).indexOf(32)
  const time = end === -1 ? '' : bytes.toString('latin1', 0, end)
  if (!STAMP.test(time)) return { time: undefined, rest: bytes }
  return { time, rest: bytes.subarray(end + 1) }
}

function lineOf(
  stream: LogLine['stream'],
  time: string | undefined,
  bytes: Buffer,
  cut: boolean,
  maxBytes: number,
): LogLine {
  const kept = bytes.subarray(0, maxBytes)
  const end = kept.at(-1) === 13 && kept.length === bytes.length ? kept.length - 1 : kept.length
  return {
    stream,
    ...(time === undefined ? {} : { time }),
    text: kept.toString('utf8', 0, end),
    cut: cut || kept.length < bytes.length,
  }
}
