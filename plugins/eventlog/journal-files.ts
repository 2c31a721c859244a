import { mkdir, readdir, readFile, rename, rm, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { chainHash, GENESIS } from '../../src/events/chain.ts'
import type { ChainedEvent, History } from '../../src/events/log.ts'
import { type Event, LEVELS } from '../../src/events/sink.ts'
import { syncDirectory } from '../../src/files/atomic-file.ts'

const SEGMENT = /^events-(\d{15})\.jsonl$/

/** First line of a segment. */
export interface SegmentHeader {
  /** Version of the format. */
  readonly journal: 1
  /** Sequence number of the first event. */
  readonly first: number
  /** Hash before it, 64 hex digits. */
  readonly previous: string
  /** Events before this segment that a failing disk did not take. */
  readonly lost?: number
}

/** What a journal holds. */
export interface Replay extends History {
  /** Paths of the segments, oldest first. */
  readonly segments: readonly string[]
  /** Bytes of the newest segment that are good; what follows was cut off. */
  readonly size: number
  /** Bytes of an unfinished write that were cut off. */
  readonly torn: number
  /** Set when the chain did not hold and the whole journal was moved aside. */
  readonly broken?: { readonly reason: string; readonly movedTo: string }
}

/** Name of the segment that starts with a sequence number. */
export function segmentName(first: number): string {
  return `events-${String(first).padStart(15, '0')}.jsonl`
}

/** The header line of a segment, with its line feed. */
export function headerLine(header: SegmentHeader): string {
  return `${JSON.stringify(header)}\n`
}

/** One event as a line of the journal, with its line feed. */
export function recordLine(event: Event, hash: string): string {
  const raw = event.raw && Buffer.from(event.raw).toString('base64')
  return `${JSON.stringify({ ...event, raw, hash })}\n`
}

/**
 * Reads a journal, checks every link of its chain and repairs what a crash leaves behind: an
 * unfinished last write is cut off, an empty last segment removed. A journal whose chain does not
 * hold is moved to a folder `broken-…` beside it, whole, and numbering goes on after it.
 *
 * @param keep The number of newest events to return.
 * @throws {Error} The system error when files cannot be read or moved.
 */
export async function replay(dir: string, keep: number): Promise<Replay> {
  const names = (await readdir(dir)).filter((name) => SEGMENT.test(name)).sort()
  const reader = new ChainReader(keep)
  const segments: string[] = []
  let size = 0
  let torn = 0
  for (const [i, name] of names.entries()) {
    const path = join(dir, name)
    const data = await readFile(path)
    const end = reader.segment(name, data, i === names.length - 1)
    if (reader.broken !== undefined) {
      const next = Math.max(reader.next, await beyond(dir, names))
      return moveAside(dir, names, next, reader.broken)
    }
    torn = data.length - end
    if (torn > 0) await (end === 0 ? rm(path) : truncate(path, end))
    if (end === 0) continue
    segments.push(path)
    size = end
  }
  return { records: reader.records(), next: reader.next, head: reader.head, segments, size, torn }
}

/**
 * Moves all segments into a folder of their own; nothing is deleted.
 *
 * @param next Where numbering goes on.
 * @throws {Error} The system error.
 */
export async function moveAside(
  dir: string,
  names: readonly string[],
  next: number,
  reason: string,
): Promise<Replay> {
  const stamp = new Date().toISOString().replaceAll(':', '-')
  const movedTo = join(dir, `broken-${stamp}`)
  await mkdir(movedTo, { mode: 0o700 })
  for (const name of names) await rename(join(dir, name), join(movedTo, name))
  await syncDirectory(dir)
  const broken = { reason, movedTo }
  return { records: [], next, head: GENESIS, segments: [], size: 0, torn: 0, broken }
}

/** Follows the chain through the segments. */
class ChainReader {
  readonly #keep: number
  #records: ChainedEvent[] = []
  next = 1
  head = GENESIS
  broken: string | undefined

  constructor(keep: number) {
    this.#keep = keep
  }

  records(): readonly ChainedEvent[] {
    return this.#records.slice(-this.#keep)
  }

  /** Reads one segment; returns how many of its bytes are good. */
  segment(name: string, data: Buffer, newest: boolean): number {
    let at = 0
    for (const line of lines(data)) {
      const record = parse(line)
      // A crash leaves the newest segment with a tail that is no JSON; elsewhere that is damage.
      if (record === undefined && newest) return at
      const wrong = at === 0 ? this.#header(name, record) : this.#link(record)
      if (wrong !== undefined) {
        this.broken = `${name}, byte ${at}: ${wrong}`
        // Not taken from the damaged records: a number beyond all they can have used.
        this.next += count(data.subarray(at))
        return at
      }
      at += line.length + 1
    }
    if (at < data.length && !newest) this.broken = `${name}, byte ${at}: the last line is cut`
    return at
  }

  #header(name: string, value: unknown): string | undefined {
    const { journal, first, previous, lost } = (value ?? {}) as Partial<SegmentHeader>
    const named = numberOf(name)
    const known = this.next > 1
    this.next = Math.max(this.next, named)
    if (journal !== 1 || typeof previous !== 'string') return 'the segment has no header'
    if (first !== named) return `the segment starts with ${first}, its name says otherwise`
    if (known && lost === undefined && previous !== this.head) return 'the chain is broken'
    if (lost !== undefined) this.#records = []
    this.head = previous
    return undefined
  }

  #link(value: unknown): string | undefined {
    const event = toEvent(value)
    if (!event) return 'the record is not an event'
    if (event.seq !== this.next) return `event ${event.seq} stands where ${this.next} belongs`
    const hash = chainHash(this.head, event)
    if ((value as { hash?: unknown }).hash !== hash) return `event ${event.seq} breaks the chain`
    this.head = hash
    this.next++
    this.#records.push({ event, hash })
    if (this.#records.length > 2 * this.#keep) this.#records = this.#records.slice(-this.#keep)
    return undefined
  }
}

/** A number beyond all that the segments can have used, whatever is in them. */
async function beyond(dir: string, names: readonly string[]): Promise<number> {
  const newest = names.at(-1) as string
  return numberOf(newest) + count(await readFile(join(dir, newest)))
}

function numberOf(name: string): number {
  return Number(SEGMENT.exec(name)?.[1])
}

/** The complete lines of a file, without their line feeds. */
function* lines(data: Buffer): Generator<Buffer> {
  for (let from = 0; ; ) {
    const end = data.indexOf(10, from)
    if (end === -1) return
    yield data.subarray(from, end)
    from = end + 1
  }
}

function count(data: Buffer): number {
  let lines = 1
  for (const byte of data) if (byte === 10) lines++
  return lines
}

function parse(line: Buffer): unknown {
  try {
    return JSON.parse(line.toString('utf8'))
  } catch {
    return undefined
  }
}

function toEvent(value: unknown): Event | undefined {
  const { seq, time, source, level, message, raw } = (value ?? {}) as Record<string, unknown>
  if (!Number.isSafeInteger(seq) || !Number.isSafeInteger(time)) return undefined
  // Beyond this RFC 3339 cannot say the time.
  if ((time as number) < 0 || (time as number) >= 253_402_300_800_000) return undefined
  if (typeof source !== 'string' || typeof message !== 'string') return undefined
  const known = LEVELS.find((name) => name === level)
  if (known === undefined) return undefined
  const event = { seq: seq as number, time: time as number, source, level: known, message }
  if (raw === undefined) return event
  return typeof raw === 'string' ? { ...event, raw: Buffer.from(raw, 'base64') } : undefined
}
