import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { errnoOf } from '../../../../src/errors.ts'
import { searchPath } from '../../../../src/process/host-program.ts'
import { lastingArgv } from '../../../../src/process/lasting-argv.ts'
import type { ProcessMark } from './machine-files.ts'

const POLL_MS = 20
/** For a killed process to be gone. */
const KILL_MS = 5000

/** A process that goes on when the daemon ends. */
export interface LastingProcess extends ProcessMark {
  /** Whether it ended since, as far as its parent knows. */
  readonly ended: () => boolean
  /** Called once when it ends while this daemon runs. */
  onEnd(listener: () => void): void
}

/**
 * Starts a program in a session of its own, with its output appended to a file.
 *
 * @param argv Seen by every user of the host: no secrets.
 * @throws {Error} The system error when it cannot be started.
 */
export async function startLasting(
  argv: readonly string[],
  logPath: string,
): Promise<LastingProcess> {
  const [program = '', ...args] = lastingArgv(argv)
  const log = openSync(logPath, 'a', 0o600)
  let child: ChildProcess
  try {
    child = spawn(program, args, {
      detached: true,
      stdio: ['ignore', log, log],
      env: { PATH: searchPath() },
    })
  } finally {
    closeSync(log)
  }
  let ended = false
  const listeners: (() => void)[] = []
  child.once('exit', () => {
    ended = true
    for (const listener of listeners) listener()
  })
  await new Promise<void>((resolve, reject) => {
    child.on('error', reject)
    if (child.pid !== undefined) resolve()
  })
  child.unref()
  const pid = child.pid ?? 0
  const started = await startOf(pid)
  return { pid, started, ended: () => ended, onEnd: (listener) => listeners.push(listener) }
}

/** Whether this very process is there. Without its time of start nobody can tell: false. */
export async function isThere({ pid, started }: ProcessMark): Promise<boolean> {
  return started !== undefined && (await startOf(pid)) === started
}

/**
 * Ends a process with everything in its session: TERM, then KILL after the grace time. One that is
 * not there, or has become another one, is left alone.
 */
export async function endLasting(mark: ProcessMark, graceMs: number): Promise<void> {
  if (!(await isThere(mark))) return
  kill(mark.pid, 'SIGTERM')
  if (await isGone(mark, graceMs)) return
  kill(mark.pid, 'SIGKILL')
  await isGone(mark, KILL_MS)
}

/** Waits until it is gone, at most this long. */
export async function isGone(mark: ProcessMark, ms: number): Promise<boolean> {
  const latest = performance.now() + ms
  for (;;) {
    if (!(await isThere(mark))) return true
    if (performance.now() >= latest) return false
    await sleep(POLL_MS)
  }
}

function kill(pid: number, signal: 'SIGTERM' | 'SIGKILL'): void {
  for (const target of [-pid, pid]) {
    try {
      process.kill(target, signal)
    } catch (error) {
      // It ended meanwhile; or the runtime knows no groups.
      if (errnoOf(error) === 'EPERM') throw error
    }
  }
}

/** Field 22 of `/proc/<pid>/stat` (proc(5)); undefined for none, for a defunct one, or unreadable. */
async function startOf(pid: number): Promise<string | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  // The second field is in brackets, and may have any character in it.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19]
}
