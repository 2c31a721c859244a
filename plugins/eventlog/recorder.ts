import type { EventLog } from '../../src/events/log.ts'
import type { Event, EventOptions } from '../../src/events/sink.ts'
import type { Journal } from './journal.ts'

/** Records events of outside callers, who hear of it only when the event is safe. */
export class Recorder {
  readonly #log: EventLog
  readonly #journal: Journal | undefined
  #recorded = 0

  constructor(log: EventLog, journal: Journal | undefined) {
    this.#log = log
    this.#journal = journal
  }

  /** Events recorded since the start. */
  get recorded(): number {
    return this.#recorded
  }

  /** Appends an event; answer for it only after {@link saved}. */
  append(source: string, message: string, options?: EventOptions): Event {
    this.#recorded++
    return this.#log.append(source, message, options)
  }

  /**
   * With persistence, resolves when the event is on disk.
   *
   * @throws {ApiError} 507 `EVENT_NOT_DURABLE`; the event is in memory all the same.
   */
  async saved(event: Event): Promise<void> {
    await this.#journal?.durable(event.seq)
  }
}
