import { textOf, truthy, wholeNumber } from './coercions.ts'
import { HostError } from './host-error.ts'

/** Output modes of journalctl(1), `--output`. */
const FORMATS = [
  'short',
  'short-full',
  'short-iso',
  'short-iso-precise',
  'short-precise',
  'short-monotonic',
  'short-delta',
  'short-unix',
  'verbose',
  'export',
  'json',
  'json-pretty',
  'json-sse',
  'json-seq',
  'cat',
  'with-unit',
] as const

/** Lines that can be asked for; without a count there is no limit, as in journalctl. */
const MAX_COUNT = 10_000_000

/** Names of units and patterns of them, systemd.unit(5). */
const UNIT = /^[A-Za-z0-9:_.@\\*?[\]][A-Za-z0-9:_.@\\*?[\]-]{0,255}$/

/** Id or name of a container, which the engine gives as the identifier. */
const CONTAINER = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}$/

/** Times of systemd.time(7): `2026-01-01 10:00`, `yesterday`, `-1h`, `@1700000000`. */
const TIME = /^[A-Za-z0-9:+,.@/_ -]{1,100}$/

/**
 * The arguments of journalctl for the body of `POST /v2/journal-logs` (spec §5.13). Without any
 * field it is the whole journal.
 *
 * @throws {HostError} 400 `JOURNAL_REQUEST_INVALID` for a value that cannot be meant.
 */
export function journalArguments(body: Readonly<Record<string, unknown>>): string[] {
  const { all, follow, count, format } = body
  const unit = checked('unit', body.unit, UNIT)
  const container = checked('containerId', body.containerId, CONTAINER)
  const since = checked('since', body.since, TIME)
  const until = checked('until', body.until, TIME)
  return [
    ...(truthy(all) ? ['-a'] : []),
    ...(truthy(follow) ? ['--follow'] : []),
    ...(unit === undefined ? [] : ['-u', unit]),
    ...(container === undefined ? [] : ['-t', container]),
    ...(isAbsent(count) ? [] : ['-n', String(checkedCount(count))]),
    ...(since === undefined ? [] : ['-S', since]),
    ...(until === undefined ? [] : ['-U', until]),
    '-o',
    checkedFormat(format),
  ]
}

function isAbsent(value: unknown): boolean {
  return value === undefined || value === null || value === ''
}

function checked(name: string, value: unknown, pattern: RegExp): string | undefined {
  if (isAbsent(value)) return undefined
  const text = textOf(value)
  if (text !== undefined && pattern.test(text)) return text
  throw invalid(name, value, 'is not one journalctl knows')
}

function checkedCount(value: unknown): number {
  const count = wholeNumber(value)
  if (count !== undefined && count >= 1 && count <= MAX_COUNT) return count
  throw invalid('count', value, `must be a whole number from 1 to ${MAX_COUNT}`)
}

function checkedFormat(value: unknown): string {
  if (isAbsent(value)) return 'short'
  const known = FORMATS.find((format) => format === value)
  if (known !== undefined) return known
  throw invalid('format', value, `must be one of ${FORMATS.join(', ')}`)
}

function invalid(name: string, value: unknown, why: string): HostError {
  const shown = typeof value === 'string' ? JSON.stringify(value.slice(0, 64)) : typeof value
  const message = `Cannot read the journal: ${name} ${shown} ${why}`
  return new HostError('JOURNAL_REQUEST_INVALID', 400, message)
}
