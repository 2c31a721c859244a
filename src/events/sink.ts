/** Severity of an event, as in syslog's four everyday levels. */
export type Level = 'debug' | 'info' | 'warn' | 'error'

/** The levels from the least to the most severe. */
export const LEVELS = ['debug', 'info', 'warn', 'error'] as const satisfies readonly Level[]

/** Source of the daemon's own events, which the system-api views leave out. */
export const OWN_SOURCE = 'cvmd'

/** One record of the event log. */
export interface Event {
  /** Position in the log: 1 for the first event of the journal, never reused. */
  readonly seq: number
  /** Unix time in milliseconds. */
  readonly time: number
  /** Who appended it: `cvmd`, a plugin's name, or `fifo` and `http` for outside writers. */
  readonly source: string
  readonly level: Level
  readonly message: string
  /** The message as written, only where it is not valid UTF-8 and `message` shows U+FFFD. */
  readonly raw?: Uint8Array
}

/** What an appender may say about an event. */
export interface EventOptions {
  /** Default `info`. */
  readonly level?: Level
  /** Unix time in milliseconds; default now. */
  readonly time?: number
  /** The exact bytes, where `message` could not hold them; see {@link Event.raw}. */
  readonly raw?: Uint8Array
}

/** Where a plugin records events; `source` is set by the core. */
export interface EventSink {
  append(message: string, options?: EventOptions): Event
}
