import { spawn } from 'node:child_process'

/**
 * Tells the service manager about a change of state (sd_notify(3)); does nothing unless it asked.
 *
 * Runs `systemd-notify`, because none of the three runtimes can send a datagram to a Unix socket
 * without native code; the unit therefore says `NotifyAccess=all`.
 */
export function notifySystemd(assignments: readonly string[]): void {
  if (process.env.NOTIFY_SOCKET === undefined) return
  const child = spawn('systemd-notify', [`--pid=${process.pid}`, ...assignments], {
    stdio: 'ignore',
  })
  // Without the program the start would time out anyway; there is nobody better to tell.
  child.on('error', () => undefined)
  child.unref()
}

/**
 * Feeds the service manager's watchdog at half its interval, as long as `alive` says so.
 *
 * @returns The function that stops it.
 */
export function startWatchdog(alive: () => Promise<boolean>): () => void {
  const { WATCHDOG_USEC, WATCHDOG_PID } = process.env
  const usec = Number(WATCHDOG_USEC ?? 0)
  if (!(usec > 0) || (WATCHDOG_PID !== undefined && Number(WATCHDOG_PID) !== process.pid)) {
    return () => undefined
  }
  const timer = setInterval(async () => {
    if (await alive().catch(() => false)) notifySystemd(['WATCHDOG=1'])
  }, usec / 2000)
  timer.unref()
  return () => clearInterval(timer)
}
