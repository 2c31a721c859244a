import type { ContainerDetails } from '../../../../src/engine/containers.ts'
import type { Engine } from '../../../../src/engine/engine.ts'
import { isEngineError } from '../../../../src/engine/error.ts'
import { followEvents } from '../../../../src/engine/events.ts'
import { messageOf } from '../../../../src/errors.ts'
import { CRASH_LINES, crashReason } from '../crash-reason.ts'
import type { Crash } from '../driver.ts'
import { InHand } from '../in-hand.ts'
import { OWNER_LABEL, WORKLOAD_LABEL } from '../names.ts'
import { lastLines } from './logs.ts'

/** A machine that is to run. */
export interface RunningMachine {
  /** Id of its container. */
  readonly container: string
  /** Values that are not shown. */
  readonly secrets: readonly string[]
}

export interface CrashWatchOptions {
  readonly engine: Engine
  readonly owner: string
}

/** Sees which machines ended although they are to run. */
export class CrashWatch {
  readonly #options: CrashWatchOptions
  readonly #running = new Map<string, RunningMachine>()
  readonly #inHand = new InHand()
  /** Something happened to it meanwhile. */
  readonly #touched = new Set<string>()
  #crashed: ((crash: Crash) => void) | undefined
  #signal: AbortSignal | undefined

  constructor(options: CrashWatchOptions) {
    this.#options = options
  }

  /** From now on its end is a crash. */
  runs(id: string, machine: RunningMachine): void {
    this.#running.set(id, machine)
  }

  /** Its end is wanted, or is no crash. */
  forget(id: string): void {
    this.#running.delete(id)
  }

  /** Work with a machine, in which its end says nothing; what is true afterwards counts. */
  during<T>(id: string, work: () => Promise<T>): Promise<T> {
    return this.#inHand.during(id, work, () => {
      if (this.#touched.delete(id)) void this.#look(id, 'report')
    })
  }

  /**
   * Follows the engine until the signal aborts. Machines that ended while it was away are started
   * once more: it takes them with it when it is restarted.
   */
  async watch(crashed: (crash: Crash) => void, signal: AbortSignal): Promise<void> {
    this.#crashed = crashed
    this.#signal = signal
    let lookingAtAll = Promise.resolve()
    await followEvents(this.#options.engine, {
      signal,
      types: ['container'],
      onConnected: () => {
        lookingAtAll = lookingAtAll.then(() => this.#lookAtAll())
      },
      onEvent: ({ action, attributes }) => {
        const id = attributes[WORKLOAD_LABEL]
        if (id === undefined || attributes[OWNER_LABEL] !== this.#options.owner) return
        if (!/^(?:die|destroy|oom)/.test(action)) return
        if (this.#inHand.has(id)) this.#touched.add(id)
        else if (this.#running.has(id)) void this.#look(id, 'report')
      },
      // The drivers' own calls tell that it is away.
      onLost: () => {},
    })
    await lookingAtAll
  }

  async #lookAtAll(): Promise<void> {
    for (const id of [...this.#running.keys()]) {
      if (this.#signal?.aborted) return
      if (!this.#inHand.has(id)) await this.#look(id, 'start')
    }
  }

  /** Never throws. */
  async #look(id: string, ended: 'start' | 'report'): Promise<void> {
    const machine = this.#running.get(id)
    const signal = this.#signal
    if (!machine || !signal || signal.aborted) return
    try {
      const reason = await this.#endOf(machine, ended, signal)
      // A look that took long may be about what is over.
      if (reason === undefined || this.#running.get(id) !== machine || this.#inHand.has(id)) return
      this.#running.delete(id)
      this.#crashed?.({ id, reason })
    } catch {
      // The engine is away, and is looked at again when it is back.
    }
  }

  /** Why a machine does not run; undefined when it does. */
  async #endOf(
    { container, secrets }: RunningMachine,
    ended: 'start' | 'report',
    signal: AbortSignal,
  ): Promise<string | undefined> {
    const { engine } = this.#options
    try {
      const { State } = await engine.containers.inspect(container, { signal })
      if (State.Running) return undefined
      if (ended === 'report') return await reasonOf(engine, container, State, secrets, signal)
    } catch (error) {
      if (!isEngineError(error, 'ENGINE_NOT_FOUND')) throw error
      return 'machine ended: its container is gone from the engine'
    }
    try {
      await engine.containers.start(container, { signal })
      return undefined
    } catch (error) {
      if (isEngineError(error, 'ENGINE_UNREACHABLE') || signal.aborted) throw error
      return `machine ended with the container engine and cannot be started: ${messageOf(error)}`
    }
  }
}

/** Why a container ended, with the last lines of its log. */
export async function reasonOf(
  engine: Engine,
  container: string,
  state: ContainerDetails['State'],
  secrets: readonly string[],
  signal: AbortSignal,
): Promise<string> {
  const { ExitCode, OOMKilled } = state
  const memory = OOMKilled ? ': out of memory' : ''
  const lines = await lastLines(engine, container, CRASH_LINES, secrets, signal).catch(() => [])
  return crashReason(` with exit code ${ExitCode}${memory}`, lines.join('\n'))
}
