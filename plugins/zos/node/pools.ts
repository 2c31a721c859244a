import { realpath, stat, statfs } from 'node:fs/promises'
import { basename } from 'node:path'
import { within } from '../../../src/deadline.ts'
import { messageOf } from '../../../src/errors.ts'
import { type DeviceNumber, diskKind } from './disk-kind.ts'
import type { Pool } from './facts.ts'
import type { HostFiles } from './host-files.ts'
import type { Notes } from './notes.ts'

/** A folder that workloads get their storage from. */
export interface DataFolder {
  /** Absolute. */
  readonly path: string
  /** Default: the last part of the path, or all of it where two would be the same. */
  readonly name?: string | undefined
  /** Default: as the kernel tells. */
  readonly type?: 'ssd' | 'hdd' | undefined
}

/** What stat(2) and statfs(2) say of a folder; sizes in bytes. */
export interface FolderSpace {
  /** The path without links. */
  readonly path: string
  readonly device: DeviceNumber
  readonly used: bigint
  /** What others than root may still take. */
  readonly available: bigint
}

export interface PoolsOptions {
  readonly folders: readonly DataFolder[]
  readonly files: HostFiles
  readonly notes: Notes
  /** Default: the system calls. */
  readonly space?: ((path: string) => Promise<FolderSpace>) | undefined
}

/** A network file system may be away for good. */
const DEADLINE_MS = 5000

const MAX_NAME = 256

/**
 * One pool for each data folder (spec §8), SSD first; a folder on a file system that another one is
 * on too is left out, as its space would count twice, and so is one that cannot be read. The size is
 * what is used and what may still be: blocks kept back for root are nobody's.
 */
export class Pools {
  readonly #options: PoolsOptions
  readonly #types = new Map<string, Promise<'ssd' | 'hdd'>>()
  /** Folders whose look has not come back within the deadline; nobody waits for it again. */
  readonly #stuck = new Set<string>()

  constructor(options: PoolsOptions) {
    this.#options = options
  }

  /** Never rejects. */
  async list(): Promise<readonly Pool[]> {
    const { folders } = this.#options
    const spaces = await Promise.all(folders.map(({ path }) => this.#look(path)))
    const seen = new Set<string>()
    const pools = folders.map(async (folder, at): Promise<Pool | undefined> => {
      const space = spaces[at]
      if (!space) return undefined
      const { used, available, device } = space
      const id = `${device.major}:${device.minor}`
      if (seen.has(id)) return undefined
      seen.add(id)
      const type = folder.type ?? (await this.#typeOf(folder.path, space))
      return { name: this.#nameOf(folder), type, size: used + available, used }
    })
    const found = (await Promise.all(pools)).filter((pool) => pool !== undefined)
    return found.sort((a, b) => Number(a.type === 'hdd') - Number(b.type === 'hdd'))
  }

  async #look(path: string): Promise<FolderSpace | undefined> {
    if (this.#stuck.has(path)) return undefined
    const { notes, space = folderSpace } = this.#options
    const looking = space(path)
    try {
      return await within(DEADLINE_MS, looking, () => {
        this.#stuck.add(path)
        const back = () => void this.#stuck.delete(path)
        looking.then(back, back)
        return new Error(`it did not answer within ${DEADLINE_MS} ms`)
      })
    } catch (error) {
      notes.once(`pool ${path}`, `The storage pool "${path}" is left out: ${messageOf(error)}`)
      return undefined
    }
  }

  #typeOf(path: string, space: FolderSpace): Promise<'ssd' | 'hdd'> {
    const known = this.#types.get(path) ?? diskKind(this.#options, space.path, space.device)
    this.#types.set(path, known)
    return known
  }

  #nameOf({ name, path }: DataFolder): string {
    if (name !== undefined) return name
    const own = basename(path)
    const same = this.#options.folders.filter((other) => basename(other.path) === own)
    return (same.length === 1 && own !== '' ? own : path).slice(0, MAX_NAME)
  }
}

/** Asks the kernel. */
async function folderSpace(path: string): Promise<FolderSpace> {
  const [real, found, space] = await Promise.all([
    realpath(path),
    stat(path, { bigint: true }),
    statfs(path, { bigint: true }),
  ])
  const { bsize, blocks, bfree, bavail } = space
  return {
    path: real,
    device: deviceNumber(found.dev),
    used: (blocks - bfree) * bsize,
    available: bavail * bsize,
  }
}

/** Takes apart what stat(2) gives (makedev(3)). */
function deviceNumber(dev: bigint): DeviceNumber {
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & 0xfffff000n)
  const minor = (dev & 0xffn) | ((dev >> 12n) & 0xffffff00n)
  return { major: Number(major), minor: Number(minor) }
}
