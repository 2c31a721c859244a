import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '../../../../src/errors.ts'
import { CRASH_LINES, crashReason } from '../crash-reason.ts'
import type { Crash } from '../driver.ts'
import { InHand } from '../in-hand.ts'
import { isMachineApiError } from './api.ts'
import type { Machines } from './machines.ts'

/** Silences in a row after which a machine is given up. */
const SILENCES = 3

export interface MachineWatchOptions {
  readonly machines: Machines
  readonly intervalMs: number
  /** Called for each machine at each look. */
  readonly tend: (id: string) => Promise<void>
}

/** Sees which machines ended although they are to run. */
export class MachineWatch {
  readonly #options: MachineWatchOptions
  /** With the values that are not shown. */
  readonly #running = new Map<string, readonly string[]>()
  readonly #inHand = new InHand()
  readonly #silent = new Map<string, number>()
  #wake: (() => void) | undefined

  constructor(options: MachineWatchOptions) {
    this.#options = options
  }

  /** From now on its end is a crash. */
  runs(id: string, secrets: readonly string[]): void {
    this.#running.set(id, secrets)
    this.#silent.delete(id)
  }

  /** Its end is wanted, or is no crash. */
  forget(id: string): void {
    this.#running.delete(id)
    this.#silent.delete(id)
  }

  /** A process ended: look at once. */
  hint(): void {
    this.#wake?.()
  }

  /** Work with a machine, in which its end says nothing. */
  during<T>(id: string, work: () => Promise<T>): Promise<T> {
    return this.#inHand.during(id, work)
  }

  /** Looks at every machine again and again, until the signal aborts. */
  async watch(crashed: (crash: Crash) => void, signal: AbortSignal): Promise<void> {
    const { intervalMs, tend } = this.#options
    while (!signal.aborted) {
      for (const id of [...this.#running.keys()]) {
        if (signal.aborted) return
        await this.#look(id, crashed, signal)
        await tend(id).catch(() => {})
      }
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve
      })
      const pause = new AbortController()
      const either = AbortSignal.any([pause.signal, signal])
      await Promise.race([woken, sleep(intervalMs, undefined, { signal: either }).catch(() => {})])
      pause.abort()
    }
  }

  /** Never throws. */
  async #look(id: string, crashed: (crash: Crash) => void, signal: AbortSignal): Promise<void> {
    const secrets = this.#running.get(id)
    if (secrets === undefined || this.#inHand.has(id)) return
    const ended = await this.#endOf(id, signal)
    if (ended === undefined || signal.aborted) return
    const log = await this.#options.machines.lines(id, CRASH_LINES, secrets).catch(() => '')
    // A look that took long may be about what is over.
    if (this.#running.get(id) !== secrets || this.#inHand.has(id)) return
    this.forget(id)
    // What is left of it would hold its memory; the disks stay.
    await this.during(id, () => this.#options.machines.halt(id, 0)).catch(() => {})
    crashed({ id, reason: crashReason(`: ${ended}`, log) })
  }

  /** Undefined while it runs, or while nobody can tell. */
  async #endOf(id: string, signal: AbortSignal): Promise<string | undefined> {
    try {
      const state = await this.#options.machines.state(id, signal)
      this.#silent.delete(id)
      if (state === undefined) return 'its hypervisor is gone'
      if (state === 'Running' || state === 'Paused') return undefined
      return state === 'Shutdown' ? 'it switched itself off' : `it is ${state}`
    } catch (error) {
      if (!isMachineApiError(error)) return undefined
      const silences = (this.#silent.get(id) ?? 0) + 1
      this.#silent.set(id, silences)
      return silences < SILENCES ? undefined : messageOf(error)
    }
  }
}
