import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { errnoOf } from '../errors.ts'

/**
 * Sends a signal to every process of a group.
 *
 * Deno lets JavaScript signal a group only with an unrestricted `--allow-run`; with a narrow one
 * `/bin/kill` does it, which that list then has to name.
 *
 * @param child The group's leader, started with `detached: true`.
 */
export function signalGroup(child: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): void {
  const { pid } = child
  if (pid === undefined) return
  try {
    process.kill(-pid, signal)
  } catch (thrown) {
    // ESRCH: nobody is left. EPERM: they became another user's; nothing can be done from here.
    if (errnoOf(thrown) !== undefined) return
    const helper = spawn('/bin/kill', ['-s', signal.slice(3), '--', `-${pid}`], {
      stdio: 'ignore',
      env: {},
    })
    helper.on('error', () => child.kill(signal))
  }
}

/** Whether a process group has members; true where the runtime lets nobody tell. */
export function groupExists(pid: number): boolean {
  try {
    process.kill(-pid, 0)
    return true
  } catch (thrown) {
    const code = errnoOf(thrown)
    if (code !== undefined) return code !== 'ESRCH'
    // As above: refused by Deno, not by the kernel. 1 is kill's word for "no such process".
    const options = { stdio: 'ignore', env: {} } as const
    return spawnSync('/bin/kill', ['-s', '0', '--', `-${pid}`], options).status !== 1
  }
}
