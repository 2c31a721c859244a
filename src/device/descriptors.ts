import { readdirSync, readFileSync } from 'node:fs'

/** How many file descriptors the process may use for connections. */
export interface Descriptors {
  /**
   * Connections the kernel may accept ahead of us. Deno takes all of them before we see the first
   * one, so they must fit into what is kept free.
   */
  readonly backlog: number
  /** Counts how many more connections there may be; negative when there are too many. */
  spare(): number
}

/** Node's own default. */
const USUAL_BACKLOG = 511

/**
 * Reads the limit of open files, of which an eighth is kept free of connections, for files,
 * devices and child processes. A process that runs out is worse than a refused connection: Deno
 * never accepts again after it, and Bun spins until it has some.
 *
 * Where /proc cannot be read (Deno without permission for it) there is no end to descriptors.
 */
export function descriptors(): Descriptors {
  const limit = openFilesLimit()
  if (limit === undefined) {
    return { backlog: USUAL_BACKLOG, spare: () => Number.POSITIVE_INFINITY }
  }
  const most = limit - Math.max(16, Math.floor(limit / 8))
  return {
    backlog: Math.min(USUAL_BACKLOG, Math.max(4, Math.floor(limit / 16))),
    spare: () => most - openFiles(),
  }
}

function openFilesLimit(): number | undefined {
  try {
    // Runtimes raise it before any of this runs, so it does not change any more.
    const soft = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1]
    return soft === undefined ? undefined : Number(soft)
  } catch {
    return undefined
  }
}

function openFiles(): number {
  try {
    return readdirSync('/proc/self/fd').length
  } catch {
    // No descriptor is left to list them with.
    return Number.POSITIVE_INFINITY
  }
}
