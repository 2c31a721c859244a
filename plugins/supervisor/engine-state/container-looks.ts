import { setImmediate } from 'node:timers'
import type { ContainerDetails } from '../../../src/engine/containers.ts'

export interface ContainerLooksOptions {
  /** @returns Undefined where there is no such container. */
  readonly inspect: (id: string, signal?: AbortSignal) => Promise<ContainerDetails | undefined>
  /** Of the connection to the engine: what an older one answers does not count. */
  readonly epoch: () => number
  /** Undefined: it is not there. */
  readonly onFound: (id: string, details: ContainerDetails | undefined) => void
  /** A look because of an event failed. */
  readonly onFailure: (error: unknown, epoch: number) => void
}

interface Moment {
  readonly wall: number
  readonly steady: number
}

/** Within this time after we looked ourselves, an event that is older than the look says nothing. */
const ECHO_MS = 2000
const MAX_GONE = 1000

/** When to ask the engine about a container, so that nothing is missed and nothing asked twice. */
export class ContainerLooks {
  readonly #options: ContainerLooksOptions
  /** By container id: when we last looked, by both clocks. */
  readonly #looks = new Map<string, Moment>()
  /** By container id: the latest look that was answered. */
  readonly #answered = new Map<string, number>()
  /** Containers that were removed lately: an answer about one may still be on its way. */
  readonly #gone = new Set<string>()
  /** Containers that are to be looked at in a moment. */
  readonly #due = new Set<string>()
  /** How many things are being done with a container just now. */
  readonly #inHand = new Map<string, number>()

  constructor(options: ContainerLooksOptions) {
    this.#options = options
  }

  /** All containers were read anew; when each was. */
  restart(looks: Iterable<readonly [id: string, at: Moment]>): void {
    this.#looks.clear()
    this.#answered.clear()
    for (const [id, at] of looks) this.#looks.set(id, at)
  }

  /** It was removed. */
  forget(id: string): void {
    this.#looks.delete(id)
    this.#answered.delete(id)
    this.#gone.add(id)
    const [oldest = ''] = this.#gone
    if (this.#gone.size > MAX_GONE) this.#gone.delete(oldest)
  }

  async now(id: string, signal?: AbortSignal): Promise<void> {
    const { inspect, epoch, onFound } = this.#options
    const asked = epoch()
    const look = moment()
    this.#looks.set(id, look)
    const found = await inspect(id, signal)
    if (asked !== epoch()) return
    if (found === undefined) return onFound(id, undefined)
    // A later look was faster, or it was removed meanwhile.
    if (this.#gone.has(id) || (this.#answered.get(id) ?? 0) > look.steady) return
    this.#answered.set(id, look.steady)
    onFound(id, found)
  }

  /**
   * Looks at a container because of an event, unless we looked after it happened: what we did
   * ourselves comes back as events. Events that come together share a look.
   */
  after(id: string, eventMs: number, signal: AbortSignal | undefined): void {
    const look = this.#looks.get(id)
    if (look && performance.now() - look.steady < ECHO_MS && eventMs < look.wall) return
    if (this.#inHand.has(id) || this.#due.has(id)) return
    const { epoch, onFailure } = this.#options
    const heard = epoch()
    this.#due.add(id)
    setImmediate(() => {
      this.#due.delete(id)
      if (this.#inHand.has(id) || heard !== epoch() || signal?.aborted) return
      this.now(id, signal).catch((error) => onFailure(error, heard))
    })
  }

  /**
   * Does something with a container and looks at it afterwards, whether it succeeded or not: it may
   * have been done all the same. What happens to it meanwhile is not looked at one by one.
   */
  async during<T>(id: string, work: () => Promise<T>): Promise<T> {
    this.#inHand.set(id, (this.#inHand.get(id) ?? 0) + 1)
    try {
      return await work()
    } finally {
      const others = (this.#inHand.get(id) ?? 1) - 1
      if (others > 0) this.#inHand.set(id, others)
      else this.#inHand.delete(id)
      // An engine that is away tells everything when it is back.
      await this.now(id).catch(() => undefined)
    }
  }
}

export function moment(): Moment {
  return { wall: Date.now(), steady: performance.now() }
}
