import { goJsonText } from '../../src/compat/go-json.ts'
import { rfc3339, rfc3339Seconds } from '../../src/compat/go-time.ts'
import type { EventLog } from '../../src/events/log.ts'
import { type Event, OWN_SOURCE } from '../../src/events/sink.ts'

const ENCODER = new TextEncoder()
const LF = 10

/** Writes one event at an offset and returns the bytes written; there is always room. */
type Render = (event: Event, into: Uint8Array, at: number) => number

/**
 * The rendered form of the newest `limits.maxEntries` events that operators see (all but the
 * daemon's own), kept as one run of bytes. New events are rendered behind the run, old ones left
 * before it: a view after one append costs one event, and a view that was handed out is never
 * written to again.
 */
class RenderedEvents {
  readonly #log: EventLog
  readonly #render: Render
  #buffer: Uint8Array<ArrayBuffer> = new Uint8Array(0)
  #end = 0
  /** Sequence number and start of each rendered event; those before `#oldest` are gone. */
  #seqs: number[] = []
  #starts: number[] = []
  #oldest = 0
  #next = 0

  constructor(log: EventLog, render: Render) {
    this.#log = log
    this.#render = render
  }

  /** The bytes of the newest events, at most `tail` of them. */
  bytes(tail = Number.POSITIVE_INFINITY): Uint8Array<ArrayBuffer> {
    this.#update()
    const at = Math.max(this.#oldest, this.#starts.length - tail)
    return this.#buffer.subarray(this.#starts[at] ?? this.#end, this.#end)
  }

  #update(): void {
    const { first, next } = this.#log
    const most = Math.max(0, this.#log.limits.maxEntries)
    for (let seq = Math.max(this.#next, first); seq < next; seq++) {
      const event = this.#log.get(seq) as Event
      if (event.source !== OWN_SOURCE) this.#add(event)
    }
    this.#next = next
    this.#oldest = Math.max(this.#oldest, this.#starts.length - most)
    while ((this.#seqs[this.#oldest] ?? first) < first) this.#oldest++
    if (this.#oldest > most + 1000) this.#forget()
  }

  #add(event: Event): void {
    this.#reserve(sizeLimit(event))
    this.#seqs.push(event.seq)
    this.#starts.push(this.#end)
    this.#end += this.#render(event, this.#buffer, this.#end)
  }

  /** Moves the events still in use to a new buffer when the room behind them is used up. */
  #reserve(bytes: number): void {
    if (this.#end + bytes <= this.#buffer.length) return
    this.#forget()
    const from = this.#starts[0] ?? this.#end
    const used = this.#buffer.subarray(from, this.#end)
    this.#buffer = new Uint8Array(2 * (used.length + bytes) + 4096)
    this.#buffer.set(used)
    for (let i = 0; i < this.#starts.length; i++)
      this.#starts[i] = (this.#starts[i] as number) - from
    this.#end = used.length
  }

  #forget(): void {
    const most = Math.max(0, this.#log.limits.maxEntries)
    const from = Math.max(this.#oldest, this.#starts.length - most)
    this.#seqs = this.#seqs.slice(from)
    this.#starts = this.#starts.slice(from)
    this.#oldest = 0
  }
}

/** The two views of system-api, as bytes ready to send (spec system-api §5.2 and §5.3). */
export class SystemApiView {
  readonly #log: EventLog
  readonly #text: RenderedEvents
  readonly #items: RenderedEvents
  #json: Uint8Array<ArrayBuffer> = new Uint8Array(0)
  #jsonKey: unknown

  constructor(log: EventLog) {
    this.#log = log
    this.#text = new RenderedEvents(log, renderText)
    this.#items = new RenderedEvents(log, renderItem)
  }

  /** One line per event: `TIME \t MESSAGE`, messages raw. */
  text(tail?: number): Uint8Array<ArrayBuffer> {
    return this.#text.bytes(tail)
  }

  /** A JSON array of `{received_at, message}` and a line feed. */
  json(): Uint8Array<ArrayBuffer> {
    const key = this.#log.next
    if (this.#jsonKey === key) return this.#json
    // Each item begins with a comma; the first one becomes the bracket.
    const items = this.#items.bytes()
    this.#json = new Uint8Array(Math.max(1, items.length) + 2)
    this.#json.set(items)
    this.#json[0] = 0x5b
    this.#json[this.#json.length - 2] = 0x5d
    this.#json[this.#json.length - 1] = LF
    this.#jsonKey = key
    return this.#json
  }
}

function renderText(event: Event, into: Uint8Array, at: number): number {
  const head = `${rfc3339Seconds(event.time)} \t `
  if (event.raw === undefined) return write(`${head}${event.message}\n`, into, at)
  const written = write(head, into, at)
  into.set(event.raw, at + written)
  into[at + written + event.raw.length] = LF
  return written + event.raw.length + 1
}

function renderItem(event: Event, into: Uint8Array, at: number): number {
  const text = goJsonText(event.message)
  // Go escapes the replacement character where it stands for bytes that are not UTF-8.
  const message = event.raw === undefined ? text : text.replaceAll('\uFFFD', '\\ufffd')
  return write(`,{"received_at":"${rfc3339(event.time)}","message":${message}}`, into, at)
}

function write(text: string, into: Uint8Array, at: number): number {
  return ENCODER.encodeInto(text, into.subarray(at)).written
}

/** No rendering of an event is longer: one UTF-16 unit gives at most six bytes (`\u0000`). */
function sizeLimit(event: Event): number {
  return 6 * event.message.length + (event.raw?.length ?? 0) + 128
}
