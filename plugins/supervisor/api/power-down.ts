import { ApiError } from '../../../src/errors.ts'
import type { PowerAction } from '../host/power.ts'
import type { ApiParts } from './parts.ts'

/**
 * Reboots the machine or turns it off under the locks of all apps (spec §4.6). Resolves when it is
 * about to happen; the locks are kept, and nothing else begun, until it failed or was called off.
 *
 * @throws {LockError} 423, {HostError} 423 or 500.
 */
export async function powerDown(
  { supervisor, host: { power }, events }: ApiParts,
  action: PowerAction,
  force: boolean,
): Promise<void> {
  // Asked for twice, by a button and a script: once is enough, and the locks are ours already.
  if (power.pending === action) return
  if (power.pending !== undefined) {
    throw new ApiError(500, 'POWER_BUSY', `Cannot ${action}: a ${power.pending} is under way`)
  }
  const ignoresLocks = force || supervisor.settings().overrideLock
  await power.assertAllowed(ignoresLocks)
  await new Promise<void>((resolve, reject) => {
    const work = async () => {
      const resume = supervisor.suspend()
      try {
        const { outcome } = power.request(action)
        events.append(`${action} requested`)
        resolve()
        const { state, problem } = await outcome
        // The machine takes everything with it.
        if (state === 'started') return
        events.append(`${action} ${state}${problem === undefined ? '' : `: ${problem}`}`, {
          level: state === 'failed' ? 'error' : 'info',
        })
        resume()
      } catch (error) {
        resume()
        throw error
      }
    }
    supervisor.withLocks('all', { force: ignoresLocks }, work).catch(reject)
  })
}
