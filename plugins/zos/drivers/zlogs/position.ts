import type { MachineLogLine } from '../machine-logs.ts'

/** How far a log was read, by the times of its lines, so that none is lost and none comes twice. */
export interface LogPosition {
  /** Where to go on; undefined at first. */
  readonly since: string | undefined
  /** The log is followed again, from {@link LogPosition.since} on. */
  resume(): void
  /** Whether a line is one that did not come before. */
  isNew(line: MachineLogLine): boolean
  /** The log ended here. For lines without a time, that of now stands. */
  end(): void
}

export function createLogPosition(now = () => new Date()): LogPosition {
  let since: string | undefined
  /** Lines of exactly that time: an engine may know no more than the second. */
  let count = 0
  let repeated = 0
  let timed = true

  return {
    get since() {
      return since
    },
    resume() {
      repeated = count
      timed = true
    },
    isNew({ time: written }) {
      if (written === undefined) {
        timed = false
        return true
      }
      const time = padded(written)
      if (since !== undefined && time < since) return false
      if (time === since) {
        if (repeated > 0) {
          repeated--
          return false
        }
        count++
        return true
      }
      since = time
      count = 1
      repeated = 0
      return true
    },
    end() {
      if (timed) return
      since = padded(now().toISOString())
      count = 0
    },
  }
}

/** With nine digits, so that texts compare as times do; of one zone, as an engine writes them. */
function padded(time: string): string {
  const parts = /^([^.]*?)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(time)
  return parts ? `${parts[1]}.${(parts[2] ?? '').padEnd(9, '0')}${parts[3]}` : time
}
