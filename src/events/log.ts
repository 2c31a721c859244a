import { chainHash, GENESIS } from './chain.ts'
import { type Event, type EventOptions, type EventSink, OWN_SOURCE } from './sink.ts'

/** Places beside `maxEntries` for the daemon's own events, which operators' log views leave out. */
const OWN_EVENTS = 256

/** Events that left the ring before they were chained wait here, at most so many. */
const MAX_BACKLOG = 65_536

/** Events chained in one turn of the event loop in the background: about a millisecond. */
const CHAIN_BURST = 1000

/** Size limits of the ring. */
export interface EventLogLimits {
  /** Events kept for operators; 0 or less keeps none. The daemon's own come on top. */
  readonly maxEntries: number
  /** Sum of message lengths (UTF-16 units) kept; the newest event always stays. */
  readonly maxBytes: number
}

export const DEFAULT_LIMITS: EventLogLimits = { maxEntries: 1000, maxBytes: 16 * 1024 * 1024 }

/** An event with its hash, as a journal holds it. */
export interface ChainedEvent {
  readonly event: Event
  /** 64 hex digits. */
  readonly hash: string
}

/** What happened before this process, for {@link EventLog.settle}. */
export interface History {
  /** The newest events, oldest first, without a gap up to `next`. */
  readonly records: readonly ChainedEvent[]
  /** Sequence number of the first event of this process. */
  readonly next: number
  /** Hash the chain continues from, 64 hex digits. */
  readonly head: string
}

/**
 * The event log: a ring in memory, a SHA-256 chain over it, and subscribers that are told, at most
 * once per turn of the event loop, that something was appended.
 *
 * Appending is the hot path: it makes one object and touches no crypto. The chain is computed in
 * the background, or at once up to an event whose hash somebody reads.
 */
export class EventLog {
  #slots: (Event | undefined)[]
  #hashes: (string | undefined)[]
  #limits: EventLogLimits
  /** Sequence number of the oldest event kept; `#next` when the ring is empty. */
  #first = 1
  #next = 1
  /** What `#next` was before this process appended anything. */
  #origin = 1
  #bytes = 0
  #dropped = 0
  #settled = false
  #chained = 0
  #head = GENESIS
  /** Events that left the ring unchained; those before `#backlogAt` are done with. */
  #backlog: (Event | undefined)[] = []
  #backlogAt = 0
  #backlogBytes = 0
  #chaining = false
  #tap: ((event: Event, hash: string) => void) | undefined
  #listeners = new Set<() => void>()
  #notifying = false
  #sources = new Set([OWN_SOURCE])

  constructor(limits: EventLogLimits = DEFAULT_LIMITS) {
    this.#limits = limits
    const size = capacity(limits)
    this.#slots = new Array(size)
    this.#hashes = new Array(size)
  }

  /** Sequence number of the oldest event still here; {@link next} when there is none. */
  get first(): number {
    return this.#first
  }

  /** Sequence number the next event will get: changes exactly when an event is appended. */
  get next(): number {
    return this.#next
  }

  /** Events appended since the process started. */
  get appended(): number {
    return this.#next - this.#origin
  }

  /** Events that fell out of the ring since the start. */
  get dropped(): number {
    return this.#dropped
  }

  get limits(): EventLogLimits {
    return this.#limits
  }

  /** An appender bound to a source, which is {@link reserved} from then on. */
  sink(source: string): EventSink {
    this.#sources.add(source)
    return { append: (message, options) => this.append(source, message, options) }
  }

  /** Whether a source belongs to the daemon or one of its parts, so that no caller may claim it. */
  reserved(source: string): boolean {
    return this.#sources.has(source)
  }

  append(source: string, message: string, options?: EventOptions): Event {
    const event = makeEvent(this.#next, source, message, options)
    this.#store(event)
    if (this.#tap !== undefined) this.#tap(event, this.hash(event.seq) as string)
    if (!this.#chaining) this.#chainLater()
    if (this.#listeners.size > 0 && !this.#notifying) this.#notify()
    return event
  }

  /** The event with this sequence number, while it is in the ring. */
  get(seq: number): Event | undefined {
    if (seq < this.#first || seq >= this.#next) return undefined
    return this.#slots[seq % this.#slots.length]
  }

  /** The events after `seq`, oldest first, at most `limit`: a snapshot. */
  after(seq: number, limit = Number.POSITIVE_INFINITY): Event[] {
    const from = Math.max(seq + 1, this.#first)
    const to = Math.min(this.#next, from + limit)
    const events: Event[] = []
    for (let at = from; at < to; at++) events.push(this.#slots[at % this.#slots.length] as Event)
    return events
  }

  /** Hash of the event with this sequence number, in hex; undefined once it left the ring. */
  hash(seq: number): string | undefined {
    if (seq < this.#first || seq >= this.#next) return undefined
    if (seq > this.#chained) this.#chainTo(seq)
    return this.#hashes[seq % this.#hashes.length]
  }

  /** Hash of the newest event, in hex: it stands for the whole log up to there. */
  get head(): string {
    this.#chainTo(this.#next - 1)
    return this.#head
  }

  /** Calls `listener` after events were appended; returns the function that ends it. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /**
   * Hands every event and its hash to `tap`, inside `append`: for the journal, which may miss none.
   * There is one tap; undefined ends it.
   */
  tap(tap: ((event: Event, hash: string) => void) | undefined): void {
    this.#tap = tap
  }

  /**
   * Fixes the sequence numbers; to be called before the log can be read from outside. A history
   * is put first, and the few events appended since the start of the process are renumbered to
   * follow it. Nobody can have seen their numbers: until this call there are no readers.
   *
   * @returns Whether the history was taken: false when the numbers had been fixed before.
   */
  settle(history?: History): boolean {
    if (this.#settled) return false
    this.#settled = true
    if (!history) return true
    const early = [...this.#backlog.slice(this.#backlogAt), ...this.after(0)] as Event[]
    this.#clear(history.next)
    this.#origin = history.next
    this.#head = history.head
    this.#chained = history.next - 1
    const records = history.records.slice(-this.#slots.length)
    this.#first = history.next - records.length
    for (const { event, hash } of records) this.#place(event, hash)
    this.#shrink()
    for (const event of early) this.#store({ ...event, seq: this.#next })
    return true
  }

  /** Applies new limits, keeping the newest events that fit. */
  resize(limits: EventLogLimits): void {
    const { maxEntries, maxBytes } = this.#limits
    if (limits.maxEntries === maxEntries && limits.maxBytes === maxBytes) return
    if (this.#next > this.#first) this.#chainTo(this.#next - 1)
    const records = this.after(0).map((event) => ({ event, hash: this.hash(event.seq) as string }))
    this.#limits = limits
    this.#clear(this.#next)
    const kept = records.slice(-this.#slots.length)
    this.#dropped += records.length - kept.length
    this.#first = this.#next - kept.length
    for (const { event, hash } of kept) this.#place(event, hash)
    this.#shrink()
  }

  #clear(next: number): void {
    const size = capacity(this.#limits)
    this.#slots = new Array(size)
    this.#hashes = new Array(size)
    this.#backlog = []
    this.#backlogAt = 0
    this.#backlogBytes = 0
    this.#bytes = 0
    this.#first = next
    this.#next = next
  }

  #place(event: Event, hash: string | undefined): void {
    const at = event.seq % this.#slots.length
    this.#slots[at] = event
    this.#hashes[at] = hash
    this.#bytes += weight(event)
  }

  #store(event: Event): void {
    const size = this.#slots.length
    if (this.#next - this.#first === size) this.#drop()
    this.#slots[event.seq % size] = event
    this.#next = event.seq + 1
    this.#bytes += weight(event)
    if (this.#bytes > this.#limits.maxBytes) this.#shrink()
  }

  #shrink(): void {
    while (this.#bytes > this.#limits.maxBytes && this.#next - this.#first > 1) this.#drop()
  }

  #drop(): void {
    const at = this.#first % this.#slots.length
    const event = this.#slots[at] as Event
    this.#slots[at] = undefined
    this.#hashes[at] = undefined
    this.#first++
    this.#dropped++
    this.#bytes -= weight(event)
    if (event.seq <= this.#chained) return
    this.#backlog.push(event)
    this.#backlogBytes += weight(event)
    // In a flood two are chained for each that comes, so that the backlog is bounded and no single
    // append has to work it all off.
    for (let i = 0; i < 2 && this.#backlogFull(); i++) this.#chainBacklog()
  }

  #backlogFull(): boolean {
    return (
      this.#backlog.length - this.#backlogAt > MAX_BACKLOG ||
      this.#backlogBytes > this.#limits.maxBytes
    )
  }

  /** Chains the oldest event of the backlog; false when there is none. */
  #chainBacklog(): boolean {
    const event = this.#backlog[this.#backlogAt]
    if (!event) return false
    this.#link(event)
    this.#backlogBytes -= weight(event)
    this.#backlog[this.#backlogAt++] = undefined
    if (this.#backlogAt === this.#backlog.length || this.#backlogAt > MAX_BACKLOG) {
      this.#backlog = this.#backlog.slice(this.#backlogAt)
      this.#backlogAt = 0
    }
    return true
  }

  #chainTo(seq: number): void {
    while (this.#chainBacklog());
    while (this.#chained < seq) this.#chainNext()
  }

  /** Chains the first unchained event of the ring; false when there is none. */
  #chainNext(): boolean {
    const seq = Math.max(this.#chained + 1, this.#first)
    if (seq >= this.#next) return false
    const slot = seq % this.#slots.length
    this.#hashes[slot] = this.#link(this.#slots[slot] as Event)
    return true
  }

  #chainLater(): void {
    this.#chaining = true
    const timer = setTimeout(() => {
      let more = true
      for (let i = 0; i < CHAIN_BURST && more; i++) more = this.#chainBacklog() || this.#chainNext()
      if (more) this.#chainLater()
      else this.#chaining = false
    }, 1)
    timer.unref?.()
  }

  #link(event: Event): string {
    this.#head = chainHash(this.#head, event)
    this.#chained = event.seq
    return this.#head
  }

  #notify(): void {
    this.#notifying = true
    queueMicrotask(() => {
      this.#notifying = false
      for (const listener of this.#listeners) listener()
    })
  }
}

function makeEvent(
  seq: number,
  source: string,
  message: string,
  options: EventOptions | undefined,
): Event {
  if (options === undefined) return { seq, time: Date.now(), source, level: 'info', message }
  const { level = 'info', raw } = options
  const time = validTime(options.time)
  if (raw === undefined) return { seq, time, source, level, message }
  return { seq, time, source, level, message, raw }
}

/** The time itself where RFC 3339 can say it (years 1970 to 9999), else now. */
function validTime(ms: number | undefined): number {
  return ms !== undefined && ms >= 0 && ms < 253_402_300_800_000 ? Math.floor(ms) : Date.now()
}

function weight(event: Event): number {
  return event.raw === undefined ? event.message.length : event.message.length + event.raw.length
}

function capacity(limits: EventLogLimits): number {
  return Math.max(0, limits.maxEntries) + OWN_EVENTS
}
