/** Where lines for the operator go; consola's shape. */
export interface NoticeLog {
  debug(message: string): void
  info(message: string): void
  warn(message: string): void
  error(message: string): void
}

/** Kinds of notices that are told apart. */
const MAX_KINDS = 64

/**
 * Warnings that a stranger can cause as often as they like: of each kind one line a minute, which
 * says how many it stands for.
 */
export function createNotices(log: Pick<NoticeLog, 'warn'>, everyMs = 60_000) {
  const kinds = new Map<string, { toldAt: number; held: number }>()
  return {
    warn(kind: string, message: string): void {
      const now = performance.now()
      const known = kinds.get(kind)
      if (known && now - known.toldAt < everyMs) {
        known.held++
        return
      }
      if (!known && kinds.size >= MAX_KINDS) return
      const more = known?.held ? ` (and ${known.held} more like it since the last line)` : ''
      kinds.set(kind, { toldAt: now, held: 0 })
      log.warn(`${message}${more}`)
    },
  }
}
