import { type ConsolaInstance, createConsola, type LogObject } from 'consola/core'
import { escapeText } from './events/format.ts'

/** How log lines look: text for people, JSON for collectors, priorities for the journal. */
export type LogFormat = 'text' | 'json' | 'journal'

export interface LogOptions {
  readonly level: 'error' | 'warn' | 'info' | 'debug'
  readonly format: LogFormat
  /** Said on every line: a simulated platform. */
  readonly simulated?: string | undefined
  /** Default: standard output. */
  readonly write?: (line: string) => void
}

/** consola's numbers for the four levels. */
const LEVEL = { error: 0, warn: 1, info: 3, debug: 4 } as const

/** syslog priorities, as sd-daemon(3) reads them at the start of a line. */
const PRIORITY = [3, 4, 5, 6, 7, 7] as const

const NAMES = ['ERROR', 'WARN', 'INFO', 'INFO', 'DEBUG', 'DEBUG'] as const

/** JSON on request, priorities under systemd, else text. */
export function logFormat(
  json: boolean,
  env: Readonly<Record<string, string | undefined>>,
): LogFormat {
  if (json) return 'json'
  return env.JOURNAL_STREAM === undefined ? 'text' : 'journal'
}

/**
 * A consola logger with our reporter. The last argument, if it is a plain object, becomes fields:
 * `log.info('listening', { address })`.
 */
export function createLog(options: LogOptions): ConsolaInstance {
  const write = options.write ?? ((line: string) => void process.stdout.write(line))
  const format = FORMATTERS[options.format]
  return createConsola({
    level: LEVEL[options.level],
    // consola holds repeated lines back by default; a log must not.
    throttle: 0,
    reporters: [{ log: (record) => write(`${format(readRecord(record, options.simulated))}\n`) }],
  })
}

/** Sets the level of a running logger. */
export function setLevel(log: ConsolaInstance, level: LogOptions['level']): void {
  log.level = LEVEL[level]
}

interface Line {
  readonly time: string
  readonly level: (typeof NAMES)[number]
  readonly priority: number
  readonly tag: string
  readonly message: string
  readonly fields: Readonly<Record<string, unknown>>
}

const FORMATTERS: Readonly<Record<LogFormat, (line: Line) => string>> = {
  text: (line) => `${line.time} ${line.level.padEnd(5)} ${plain(line)}`,
  journal: (line) => `<${line.priority}>${plain(line)}`,
  json: ({ time, level, tag, message, fields }) =>
    JSON.stringify({ timestamp: time, level, msg: message, service: tag, ...fields }, jsonError),
}

function readRecord(record: LogObject, simulated: string | undefined): Line {
  const level = Math.min(5, Math.max(0, record.level))
  const args = [...(record.args as unknown[])]
  const last = args.at(-1)
  const fields = isPlain(last) ? (args.pop() as Record<string, unknown>) : {}
  return {
    time: record.date.toISOString(),
    level: NAMES[level] ?? 'INFO',
    priority: PRIORITY[level] ?? 6,
    tag: record.tag || 'cvmd',
    message: args.map(textOf).join(' '),
    fields: simulated === undefined ? fields : { simulated, ...fields },
  }
}

/** One record is one line: what it quotes must not be able to forge another. */
function plain({ tag, message, fields }: Line): string {
  const pairs = Object.entries(fields).map(([key, value]) => ` ${key}=${fieldText(value)}`)
  return `[${tag}] ${escapeText(message)}${pairs.join('')}`
}

function fieldText(value: unknown): string {
  if (typeof value === 'string' && /^[\w./:@+-]+$/.test(value)) return value
  return JSON.stringify(value, jsonError) ?? 'undefined'
}

function textOf(value: unknown): string {
  if (value instanceof Error) {
    const cause = value.cause === undefined ? '' : ` (${textOf(value.cause)})`
    return `${value.stack ?? value.message}${cause}`
  }
  return typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value))
}

function jsonError(_key: string, value: unknown): unknown {
  return value instanceof Error ? textOf(value) : typeof value === 'bigint' ? `${value}` : value
}

function isPlain(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false
  return Object.getPrototypeOf(value) === Object.prototype
}
