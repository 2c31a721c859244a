import { join } from 'node:path'
import * as v from 'valibot'
import type { Halt } from '../plan/current.ts'
import { Document } from './document.ts'

/** Far above what a device has: a file that has more was not written by us. */
const MAX_ENTRIES = 100_000
const MAX_BYTES = 32 * 1024 * 1024
const MAX_IMAGES = 10_000

const Name = v.pipe(v.string(), v.maxLength(1024))
const AppId = v.pipe(v.number(), v.safeInteger(), v.minValue(0))

function entriesOf<const Value extends v.GenericSchema>(value: Value) {
  return v.pipe(v.array(v.tuple([Name, value])), v.maxLength(MAX_ENTRIES))
}

const MemoryDocument = v.strictObject({
  version: v.literal(1),
  halts: entriesOf(v.strictObject({ by: v.picklist(['user', 'target']), hash: Name })),
  failed_updates: entriesOf(Name),
  commits: v.pipe(v.array(v.tuple([AppId, Name])), v.maxLength(MAX_ENTRIES)),
  images: v.pipe(v.array(Name), v.maxLength(MAX_ENTRIES)),
  restart_policies: entriesOf(Name),
})

export interface MemoryOptions {
  readonly folder: string
  readonly onDamaged: (message: string) => void
}

/**
 * What is remembered about the engine's objects and cannot be told from them. Everything is in
 * memory; a change is on the disk when the method that made it resolves.
 */
export class Memory {
  /** By `serviceKey`. */
  readonly halts = new Map<string, Halt>()
  /** By `serviceKey`: hash of a configuration that was rolled back. */
  readonly failedUpdates = new Map<string, string>()
  /** By app id: the commit that was reached. */
  readonly commits = new Map<number, string>()
  /** References (as `imageKey`) that were pulled by us. */
  readonly images = new Set<string>()
  /** By container id: the policy it had before it made room. */
  readonly restartPolicies = new Map<string, string>()
  readonly #document: Document<typeof MemoryDocument>

  constructor({ folder, onDamaged }: MemoryOptions) {
    this.#document = new Document({
      path: join(folder, 'memory.json'),
      schema: MemoryDocument,
      maxBytes: MAX_BYTES,
      onDamaged,
    })
  }

  /** @throws {SupervisorError} `STATE_NOT_STORED`. */
  async open(): Promise<void> {
    const stored = await this.#document.read()
    fill(this.halts, stored?.halts)
    fill(this.failedUpdates, stored?.failed_updates)
    fill(this.commits, stored?.commits)
    fill(this.restartPolicies, stored?.restart_policies)
    this.images.clear()
    for (const image of stored?.images ?? []) this.images.add(image)
  }

  /** Afterwards nothing is written. */
  close(): Promise<void> {
    return this.#document.close()
  }

  /** @param halt Undefined ends it. */
  async setHalt(key: string, halt: Halt | undefined): Promise<void> {
    const known = this.halts.get(key)
    if (known?.by === halt?.by && known?.hash === halt?.hash) return
    await this.#change(this.halts, key, halt)
  }

  async setFailedUpdate(key: string, hash: string | undefined): Promise<void> {
    if (this.failedUpdates.get(key) === hash) return
    await this.#change(this.failedUpdates, key, hash)
  }

  async setCommit(appId: number, commit: string | undefined): Promise<void> {
    if (this.commits.get(appId) === commit) return
    await this.#change(this.commits, appId, commit)
  }

  async setRestartPolicy(containerId: string, policy: string | undefined): Promise<void> {
    if (this.restartPolicies.get(containerId) === policy) return
    await this.#change(this.restartPolicies, containerId, policy)
  }

  /** The oldest are forgotten when there are too many: they stay on the engine. */
  async ownImage(image: string): Promise<void> {
    if (this.images.has(image)) return
    this.images.add(image)
    while (this.images.size > MAX_IMAGES) {
      const [oldest = ''] = this.images
      this.images.delete(oldest)
    }
    await this.#store()
  }

  async disownImage(image: string): Promise<void> {
    if (this.images.delete(image)) await this.#store()
  }

  /** Forgets what is about services and containers that there are no more. */
  async retain(services: ReadonlySet<string>, containers: ReadonlySet<string>): Promise<void> {
    const before = this.halts.size + this.failedUpdates.size + this.restartPolicies.size
    for (const map of [this.halts, this.failedUpdates]) {
      for (const key of map.keys()) if (!services.has(key)) map.delete(key)
    }
    for (const id of this.restartPolicies.keys()) {
      if (!containers.has(id)) this.restartPolicies.delete(id)
    }
    const after = this.halts.size + this.failedUpdates.size + this.restartPolicies.size
    if (after !== before) await this.#store()
  }

  async #change<Key, Value>(map: Map<Key, Value>, key: Key, value: Value | undefined) {
    const before = map.get(key)
    put(map, key, value)
    try {
      await this.#store()
    } catch (error) {
      // What is not on the disk is not promised.
      put(map, key, before)
      throw error
    }
  }

  #store(): Promise<void> {
    return this.#document.write(() => ({
      version: 1,
      halts: [...this.halts],
      failed_updates: [...this.failedUpdates],
      commits: [...this.commits],
      images: [...this.images],
      restart_policies: [...this.restartPolicies],
    }))
  }
}

function put<Key, Value>(map: Map<Key, Value>, key: Key, value: Value | undefined): void {
  if (value === undefined) map.delete(key)
  else map.set(key, value)
}

function fill<Key, Value>(
  map: Map<Key, Value>,
  entries: readonly (readonly [Key, Value])[] = [],
): void {
  map.clear()
  for (const [key, value] of entries) map.set(key, value)
}
