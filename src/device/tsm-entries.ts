import { errnoOf } from '../errors.ts'
import { TSM_REPORT } from './paths.ts'
import { retriedOnce } from './retry.ts'
import type { Transport } from './transport.ts'

const OWN_NAME = /^cvmd-(\d{1,10})-(\d{1,16})$/

/** Other parts of this process may have entries of their own; each holds few at a time. */
const MAX_TRIES = 100

/**
 * Report entries of this process, `cvmd-<pid>-<number>`. Numbers begin at the time the process
 * started, in milliseconds, so that a later process of the same pid (a container's first) can tell
 * its own entries from those that a crash left behind.
 */
export class TsmEntries {
  readonly #transport: Transport
  #number = Math.floor(performance.timeOrigin)
  /** One that could not be removed. It is used again, so that there is never a second one. */
  #kept: string | undefined

  constructor(transport: Transport) {
    this.#transport = transport
  }

  /**
   * Makes an entry.
   *
   * @returns Its path.
   * @throws {DeviceError} `ENXIO` without a provider, `ENOENT` without configfs-tsm.
   */
  async make(): Promise<string> {
    const kept = this.#kept
    this.#kept = undefined
    if (kept !== undefined) return kept
    for (let tries = 1; ; tries++) {
      const path = `${TSM_REPORT}/cvmd-${process.pid}-${this.#number++}`
      try {
        await this.#transport.mkdir(path)
        return path
      } catch (error) {
        if (errnoOf(error) !== 'EEXIST' || tries === MAX_TRIES) throw error
      }
    }
  }

  /** Removes an entry; never throws. */
  async remove(path: string): Promise<void> {
    try {
      await retriedOnce(() => this.#transport.rmdir(path))
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') this.#kept = path
    }
  }

  /**
   * Removes what processes that are gone left here: each keeps the provider's module busy.
   *
   * @returns The names removed.
   * @throws {DeviceError} When the folder cannot be read.
   */
  async removeLeftovers(): Promise<readonly string[]> {
    const removed: string[] = []
    for (const name of await this.#transport.list(TSM_REPORT)) {
      const [, pid, number] = OWN_NAME.exec(name) ?? []
      if (pid === undefined || !isLeftover(Number(pid), Number(number))) continue
      try {
        await this.#transport.rmdir(`${TSM_REPORT}/${name}`)
        removed.push(name)
      } catch {
        // Another process may have been faster; whatever else it is, it harms no quote.
      }
    }
    return removed
  }
}

function isLeftover(pid: number, number: number): boolean {
  if (pid === process.pid) return number < Math.floor(performance.timeOrigin)
  try {
    process.kill(pid, 0)
    return false
  } catch (error) {
    // Anything else means that it lives, or that we may not know.
    return errnoOf(error) === 'ESRCH'
  }
}
