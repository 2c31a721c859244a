import * as v from 'valibot'
import { DEFAULT_LIMITS } from '../../src/events/log.ts'

const MIB = 1024 * 1024

const whole = (description: string, least: number, most: number, initial: number) =>
  v.optional(
    v.pipe(
      v.number(),
      v.integer(),
      v.minValue(least),
      v.maxValue(most),
      v.description(description),
    ),
    initial,
  )

const flag = (description: string) =>
  v.optional(v.pipe(v.boolean(), v.description(description)), false)

/** The table `[plugins.eventlog]`. */
export const Config = v.strictObject({
  max_entries: whole(
    'Events kept in memory; 0 or less keeps none',
    -1_000_000_000,
    10_000_000,
    DEFAULT_LIMITS.maxEntries,
  ),
  max_bytes: whole('Characters of event text kept in memory', 1, 1024 * MIB, 16 * MIB),
  max_line_bytes: whole('Longest event an outside writer may record', 1, MIB, 65_536),
  fifo: v.optional(
    v.pipe(v.string(), v.nonEmpty(), v.description('Path of the named pipe; absent: none')),
  ),
  fifo_mode: v.optional(
    v.pipe(
      v.string(),
      v.regex(/^0?[0-7]{3}$/, 'Expected permission bits in octal, such as "0660"'),
      v.description('Permission bits of a named pipe that is made, in octal'),
    ),
    '0660',
  ),
  persist: flag('Keep the events on disk over restarts'),
  journal_max_bytes: whole('Size of one journal file', 64 * 1024, 256 * MIB, 8 * MIB),
  journal_files: whole('Journal files kept', 1, 1000, 4),
  heartbeat_s: whole('Silence after which a stream sends a sign of life', 1, 3600, 15),
  max_streams: whole('Streams and waiting requests at a time', 1, 10_000, 64),
  pprof: flag('Serve memory figures and CPU profiles of the daemon under /debug'),
})
