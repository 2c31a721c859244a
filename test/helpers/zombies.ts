import { readdirSync, readFileSync } from 'node:fs'

/** State letter and parent of a process, from `/proc/PID/stat`; undefined when it is gone. */
export function processStat(pid: string | number): { state: string; parent: number } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The second field is the program's name in brackets and may contain anything.
    const [state = '', parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return { state, parent: Number(parent) }
  } catch {
    return undefined
  }
}

/** Ids of this process's children that ended and were not reaped. */
export function zombieChildren(): string[] {
  return readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false
    const stat = processStat(pid)
    return stat?.state === 'Z' && stat.parent === process.pid
  })
}
