import { mustRun, runCommand } from './command.ts'

/** How units are reached. */
export interface SystemdOptions {
  /** The program and what comes before its verb: `['systemctl']`. */
  readonly systemctl: readonly string[]
  /** Restarts nothing. */
  readonly dryRun?: boolean
}

/** The few things that are asked of systemd, by its command (spec §23.5). */
export class Systemd {
  readonly #systemctl: readonly string[]
  readonly #dryRun: boolean

  constructor({ systemctl, dryRun = false }: SystemdOptions) {
    this.#systemctl = systemctl
    this.#dryRun = dryRun
  }

  /** Whether a unit is active; false too where there is no systemd. Never rejects. */
  async isActive(unit: string): Promise<boolean> {
    const { problem } = await this.#run('is-active', '--quiet', unit)
    return problem === undefined
  }

  /** Whether a unit is stopped and restarted with another one (`PartOf=`). Never rejects. */
  async isPartOf(unit: string, whole: string): Promise<boolean> {
    const { stdout, problem } = await this.#run('show', '--property=PartOf', '--value', unit)
    return problem === undefined && stdout.split(/\s+/).includes(whole)
  }

  /**
   * Restarts the first of these units that can be.
   *
   * @throws {HostError} When none could.
   */
  async restartOneOf(units: readonly string[]): Promise<void> {
    if (this.#dryRun) return
    let last: unknown
    for (const unit of units) {
      try {
        await mustRun([...this.#systemctl, 'restart', unit], `restart unit "${unit}"`)
        return
      } catch (error) {
        last = error
      }
    }
    if (last !== undefined) throw last
  }

  #run(...args: readonly string[]) {
    return runCommand([...this.#systemctl, ...args])
  }
}
