import { createHash } from 'node:crypto'
import type { BigIntStats } from 'node:fs'
import { open } from 'node:fs/promises'
import { readChunks } from './chunks.ts'
import { sameFile, unlessMissing } from './target.ts'

/** Content hashed sooner after its last change may change again within the clock's precision. */
const SETTLED_MS = 2000

/** A file as it is on disk. */
export interface Snapshot {
  readonly stat: BigIntStats
  /** Of the content, in hex. */
  readonly sha256: string
}

/** Hashes one file, again only when its inode, size or times changed. */
export class Fingerprint {
  #known: Snapshot | undefined

  /**
   * The file's state; undefined when it is missing.
   *
   * @param path A regular file: opening a FIFO would wait for its writer.
   * @throws {Error} The system error when it cannot be read.
   */
  async read(path: string): Promise<Snapshot | undefined> {
    const handle = await unlessMissing(open(path, 'r'))
    if (!handle) return undefined
    try {
      const stat = await handle.stat({ bigint: true })
      if (this.#known && unchanged(this.#known.stat, stat)) return this.#known
      const hash = createHash('sha256')
      await readChunks(handle, (chunk) => hash.update(chunk))
      const snapshot = { stat, sha256: hash.digest('hex') }
      const settled = Date.now() - Number(stat.mtimeMs) > SETTLED_MS
      this.#known = settled ? snapshot : undefined
      return snapshot
    } finally {
      await handle.close()
    }
  }
}

function unchanged(a: BigIntStats, b: BigIntStats): boolean {
  return sameFile(a, b) && a.size === b.size && a.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs
}
