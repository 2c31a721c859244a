import { createHash } from 'node:crypto'
import type { Event, EventOptions, EventSink } from './sink.ts'

/** Places beside `maxEntries` for the daemon's own events, which operators' log views leave out. */
const OWN_EVENTS = 256

/** Events that were dropped from the ring before they were chained wait here, at most so many. */
const MAX_UNCHAINED = 65_536

/** The hash before the first event: 32 zero bytes in hex. */
export const GENESIS = '0'.repeat(64)

/** Size limits of the ring. */
export interface EventLogLimits {
  /** Events kept for operators; 0 or less keeps none. The daemon's own come on top. */
  readonly maxEntries: number
  /** Sum of message lengths (UTF-16 units) kept; the newest event always stays. */
  readonly maxBytes: number
}

export const DEFAULT_LIMITS: EventLogLimits = { maxEntries: 1000, maxBytes: 16 * 1024 * 1024 }

/**
 * The event log: a ring in memory, a SHA-256 chain over it, and subscribers that are told, at most
 * once per turn of the event loop, that something was appended.
 *
 * Appending is the hot path: it makes one object and touches no crypto. The chain is computed when
 * somebody reads a hash, or in the background for events that leave the ring before that.
 */
export class EventLog {
  #slots: (Event | undefined)[]
  #hashes: (string | undefined)[]
  #limits: EventLogLimits
  /** Sequence number of the oldest event kept; `#next` when the ring is empty. */
  #first = 1
  #next = 1
  #bytes = 0
  #dropped = 0
  #chained = 0
  #head = GENESIS
  #unchained: Event[] = []
  #draining = false
  #listeners = new Set<() => void>()
  #notifying = false

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

  /** Events that fell out of the ring since the start. */
  get dropped(): number {
    return this.#dropped
  }

  get limits(): EventLogLimits {
    return this.#limits
  }

  /** An appender bound to a source. */
  sink(source: string): EventSink {
    return { append: (message, options) => this.append(source, message, options) }
  }

  append(source: string, message: string, options?: EventOptions): Event {
    const event: Event = {
      seq: this.#next,
      time: options?.time ?? Date.now(),
      source,
      level: options?.level ?? 'info',
      message,
    }
    this.#store(event)
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
    this.#chainTo(seq)
    return this.#hashes[seq % this.#hashes.length]
  }

  /** Calls `listener` after events were appended; returns the function that ends it. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Applies new limits, keeping the newest events that fit. */
  resize(limits: EventLogLimits): void {
    const events = this.after(this.#first - 1)
    if (events.length > 0) this.#chainTo(this.#next - 1)
    const hashes = events.map((event) => this.#hashes[event.seq % this.#hashes.length])
    this.#limits = limits
    const size = capacity(limits)
    this.#slots = new Array(size)
    this.#hashes = new Array(size)
    const keep = Math.min(events.length, size)
    this.#dropped += events.length - keep
    this.#first = this.#next - keep
    this.#bytes = 0
    for (let i = events.length - keep; i < events.length; i++) {
      const event = events[i] as Event
      this.#slots[event.seq % size] = event
      this.#hashes[event.seq % size] = hashes[i]
      this.#bytes += event.message.length
    }
    this.#shrink()
  }

  #store(event: Event): void {
    const size = this.#slots.length
    if (this.#next - this.#first === size) this.#drop()
    this.#slots[event.seq % size] = event
    this.#next = event.seq + 1
    this.#bytes += event.message.length
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
    this.#bytes -= event.message.length
    if (event.seq <= this.#chained) return
    this.#unchained.push(event)
    if (this.#unchained.length >= MAX_UNCHAINED) this.#chainDropped()
    else if (!this.#draining) this.#drainLater()
  }

  #chainDropped(): void {
    for (const event of this.#unchained) this.#link(event)
    this.#unchained = []
  }

  #drainLater(): void {
    this.#draining = true
    const timer = setTimeout(() => {
      this.#draining = false
      const rest = this.#unchained.splice(0, 2000)
      for (const event of rest) this.#link(event)
      if (this.#unchained.length > 0) this.#drainLater()
    }, 1)
    timer.unref?.()
  }

  #chainTo(seq: number): void {
    if (seq <= this.#chained) return
    if (this.#unchained.length > 0) this.#chainDropped()
    for (let at = Math.max(this.#chained + 1, this.#first); at <= seq; at++) {
      const slot = at % this.#slots.length
      this.#hashes[slot] = this.#link(this.#slots[slot] as Event)
    }
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

/**
 * Hash of an event in the chain: SHA-256, in hex, over the previous hash in hex, a line feed, and
 * the event as the JSON array `[seq,time,source,level,message]`.
 */
export function chainHash(previous: string, event: Event): string {
  const canonical = JSON.stringify([
    event.seq,
    event.time,
    event.source,
    event.level,
    event.message,
  ])
  return createHash('sha256').update(`${previous}\n${canonical}`).digest('hex')
}

function capacity(limits: EventLogLimits): number {
  return Math.max(0, limits.maxEntries) + OWN_EVENTS
}
