import { setTimeout as sleep } from 'node:timers/promises'
import { DriverError } from '../driver.ts'
import { isMachineApiError, type MachineApi } from './api.ts'
import { endLasting, isGone, isThere } from './lasting-process.ts'
import type { ProcessMark } from './machine-files.ts'

/** Between TERM and KILL. */
export const TERM_MS = 2000
/** For a hypervisor that was asked to end. */
const END_MS = 5000
const POLL_MS = 100

/**
 * Ends a machine and its process: by the power button, by its API, and at last by signals.
 *
 * @param mark Its process, where it is known.
 * @param graceMs For the machine to switch itself off; 0 does not ask it.
 * @throws {DriverError} `transient` for a process that does not go.
 */
export async function endHypervisor(
  api: MachineApi,
  mark: ProcessMark | undefined,
  graceMs: number,
): Promise<void> {
  try {
    if (graceMs > 0 && (await api.state()) === 'Running') await switchOff(api, graceMs)
    await api.shutdown().catch(ignoreRefusal)
    await api.delete().catch(ignoreRefusal)
    await api.shutdownVmm()
  } catch (error) {
    if (!isMachineApiError(error)) throw error
  }
  if (mark === undefined) return
  // The socket may be that of a process that hangs, or be gone before it.
  if (await isGone(mark, await patience(mark, api))) return
  await endLasting(mark, TERM_MS)
  if (await isThere(mark)) {
    throw new DriverError('transient', `Cannot end the machine: process ${mark.pid} does not go`)
  }
}

/** A machine without ACPI takes no notice. */
async function switchOff(api: MachineApi, graceMs: number): Promise<void> {
  const pressed = await api.powerButton().then(
    () => true,
    () => false,
  )
  const latest = performance.now() + graceMs
  while (pressed && performance.now() < latest) {
    if ((await api.state()) !== 'Running') return
    await sleep(POLL_MS)
  }
}

/** How long a process may take to end; none for one that was not reached. */
async function patience(mark: ProcessMark, api: MachineApi): Promise<number> {
  if (!(await isThere(mark))) return 0
  return api.ping().then(
    () => END_MS,
    (error) => (isMachineApiError(error, 'GONE') ? END_MS : 0),
  )
}

/** It was not on, or not there; what comes next tells. */
function ignoreRefusal(error: unknown): void {
  if (!isMachineApiError(error, 'REFUSED')) throw error
}
