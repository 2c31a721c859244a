import { lstat } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf, messageOf } from '../../../src/errors.ts'
import { mustRun } from './command.ts'
import { HostError } from './host-error.ts'

/** Files that say the host's operating system is being updated (spec §4.6). */
export const BREADCRUMBS = ['rollback-health-breadcrumb', 'rollback-altboot-breadcrumb'] as const

/** So that the answer is out before the machine goes (spec §4.6). */
const DELAY_MS = 1000

export type PowerAction = 'reboot' | 'shutdown'

/** How the machine is turned off. */
export interface PowerOptions {
  /** Program and arguments of each: `['systemctl', 'reboot']`, `['systemctl', 'poweroff']`. */
  readonly commands: Readonly<Record<PowerAction, readonly string[]>>
  /** Does everything but the command. */
  readonly dryRun?: boolean | undefined
  /** Folder of the files of {@link BREADCRUMBS}; undefined where there is none. */
  readonly breadcrumbFolder?: string | undefined
  /** Milliseconds from the request to the command. */
  readonly delayMs?: number | undefined
}

/** What became of a request. */
export interface PowerOutcome {
  readonly action: PowerAction
  /** `started`: the command accepted it, the machine goes. */
  readonly state: 'started' | 'dry-run' | 'failed' | 'cancelled'
  /** Why it failed. */
  readonly problem?: string
}

/** Reboots the machine and turns it off. */
export class Power {
  readonly #options: PowerOptions
  #pending: { readonly action: PowerAction; readonly outcome: Promise<PowerOutcome> } | undefined
  #cancel: () => void = () => undefined

  constructor(options: PowerOptions) {
    this.#options = options
  }

  /** What is about to happen; nothing else should be begun then. */
  get pending(): PowerAction | undefined {
    return this.#pending?.action
  }

  /**
   * Checks that nothing speaks against it, before locks are taken.
   *
   * @throws {HostError} 423 while the host's operating system is being updated, unless forced.
   */
  async assertAllowed(force: boolean): Promise<void> {
    const folder = this.#options.breadcrumbFolder
    if (force || folder === undefined) return
    for (const name of BREADCRUMBS) {
      if (!(await exists(join(folder, name)))) continue
      throw new HostError('HOST_UPDATE_PENDING', 423, 'Waiting for Host OS update to finish')
    }
  }

  /**
   * Runs the command a second from now. A second request for the same gets the same outcome.
   *
   * @returns What became of it; never rejects. Locks are to be kept until then, and unless it is
   *   `started` given back.
   * @throws {HostError} 500 when the other action is under way.
   */
  request(action: PowerAction): { readonly outcome: Promise<PowerOutcome> } {
    if (this.#pending && this.#pending.action !== action) {
      const other = this.#pending.action
      throw new HostError('POWER_BUSY', 500, `Cannot ${action}: a ${other} is under way`)
    }
    this.#pending ??= { action, outcome: this.#run(action) }
    return { outcome: this.#pending.outcome }
  }

  /** Calls off what was not started yet. */
  stop(): void {
    this.#cancel()
  }

  async #run(action: PowerAction): Promise<PowerOutcome> {
    const { delayMs = DELAY_MS, dryRun = false, commands } = this.#options
    const cancelled = await this.#sleep(delayMs)
    if (!cancelled && !dryRun) {
      try {
        await mustRun(commands[action], `start the ${action}`)
        return { action, state: 'started' }
      } catch (error) {
        this.#pending = undefined
        return { action, state: 'failed', problem: messageOf(error) }
      }
    }
    this.#pending = undefined
    return { action, state: cancelled ? 'cancelled' : 'dry-run' }
  }

  /** @returns Whether it was cut short. */
  #sleep(ms: number): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), ms)
      this.#cancel = () => {
        clearTimeout(timer)
        resolve(true)
      }
    })
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path)
    return true
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? '')) return false
    const message = `Cannot look for "${path}": ${messageOf(error)}`
    throw new HostError('HOST_COMMAND_FAILED', 500, message, { cause: error })
  }
}
