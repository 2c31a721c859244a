/** Severity of an event, as in syslog's four everyday levels. */
export type Level = 'debug' | 'info' | 'warn' | 'error'

export const LEVELS = ['debug', 'info', 'warn', 'error'] as const satisfies readonly Level[]

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
}

/** What an appender may say about an event. */
export interface EventOptions {
  /** Default `info`. */
  readonly level?: Level
  /** Unix time in milliseconds; default now. */
  readonly time?: number
}

/** Where a plugin records events; `source` is set by the core. */
export interface EventSink {
  append(message: string, options?: EventOptions): Event
}
