import { createHash } from 'node:crypto'
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { removeLeftOvers, syncDirectory, temporaryBeside } from '../../src/files/atomic-file.ts'
import { copy } from './chunks.ts'
import { unlessMissing } from './target.ts'

/** A content a file had before. */
export interface Version {
  /** In hex. */
  readonly sha256: string
  readonly size: number
  /** When it was replaced, Unix time in milliseconds. */
  readonly replacedAt: number
  readonly path: string
}

/**
 * Previous contents of one file, each a file `<time>-<sha256>` in a folder: the folder is its own
 * index, and there is nothing that could disagree with it.
 */
export class Versions {
  readonly #folder: string
  readonly #temporaryOf: string

  constructor(folder: string) {
    this.#folder = folder
    this.#temporaryOf = join(folder, 'version')
  }

  /** Newest first. */
  async list(): Promise<Version[]> {
    const names = (await unlessMissing(readdir(this.#folder))) ?? []
    const versions: Version[] = []
    for (const name of names.sort().reverse()) {
      const match = /^(\d{15})-([0-9a-f]{64})$/.exec(name)
      if (!match) continue
      const path = join(this.#folder, name)
      const { size } = await stat(path)
      versions.push({ sha256: match[2] as string, size, replacedAt: Number(match[1]), path })
    }
    return versions
  }

  /**
   * Copies a file's present content, durably.
   *
   * @throws {Error} The system error; nothing is kept then.
   */
  async save(path: string): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 })
    const newest = (await this.list())[0]?.replacedAt ?? 0
    const temporary = temporaryBeside(this.#temporaryOf)
    const from = await open(path, 'r')
    try {
      const to = await open(temporary, 'wx', 0o600)
      const hash = createHash('sha256')
      try {
        await copy(from, to, { observe: (chunk) => hash.update(chunk) })
        await to.sync()
      } finally {
        await to.close()
      }
      const time = String(Math.max(Date.now(), newest + 1)).padStart(15, '0')
      await rename(temporary, join(this.#folder, `${time}-${hash.digest('hex')}`))
    } finally {
      await from.close()
      await rm(temporary, { force: true })
    }
    await syncDirectory(this.#folder)
  }

  /** Keeps the newest `keep` versions, and of one content only the newest. */
  async prune(keep: number, current: string): Promise<void> {
    const seen = new Set([current])
    for (const { sha256, path } of await this.list()) {
      if (seen.size <= keep && !seen.has(sha256)) seen.add(sha256)
      else await rm(path, { force: true })
    }
  }

  /** Collects what an earlier process was saving when it was killed. */
  async removeLeftOvers(): Promise<void> {
    await unlessMissing(removeLeftOvers(this.#temporaryOf))
  }
}
