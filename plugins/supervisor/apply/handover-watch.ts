import type { LockFolders } from '../locks/folders.ts'
import { handoverComplete } from '../locks/handover.ts'
import { serviceKey } from '../plan/current.ts'

/** Between two looks while a hand-over goes on. */
const LOOK_MS = 250

interface Service {
  readonly appId: number
  readonly serviceName: string
}

/**
 * Looks for the files by which a new container says that it took over (spec §15), only while
 * somebody waits for one. Looking, and not being told, works in every runtime and file system.
 */
export class HandoverWatch {
  readonly #folders: LockFolders
  readonly #onFound: () => void
  readonly #watched = new Map<string, Service>()
  readonly #found = new Set<string>()
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(folders: LockFolders, onFound: () => void) {
    this.#folders = folders
    this.#onFound = onFound
  }

  /** By `serviceKey`: those whose file is there. */
  get found(): ReadonlySet<string> {
    return this.#found
  }

  /** The services that are handed over just now. */
  watch(services: readonly Service[]): void {
    this.#watched.clear()
    for (const one of services) this.#watched.set(serviceKey(one.appId, one.serviceName), one)
    for (const key of this.#found) if (!this.#watched.has(key)) this.#found.delete(key)
    if (this.#watched.size === 0) this.stop()
    else if (this.#timer === undefined) this.#look()
  }

  /** The files of a service were removed: another hand-over begins. */
  begin(appId: number, serviceName: string): void {
    this.#found.delete(serviceKey(appId, serviceName))
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #look(): void {
    const timer = setTimeout(async () => {
      let found = false
      for (const [key, { appId, serviceName }] of this.#watched) {
        if (this.#found.has(key)) continue
        // What cannot be looked at is decided by time.
        const there = await handoverComplete(this.#folders, appId, serviceName).catch(() => false)
        if (!there || this.#watched.get(key) === undefined) continue
        this.#found.add(key)
        found = true
      }
      if (this.#timer === timer) this.#look()
      if (found) this.#onFound()
    }, LOOK_MS)
    this.#timer = timer
  }
}
