import type { Stats } from 'node:fs'
import { chmod, lstat, mkdir, readdir, realpath, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { errnoOf, messageOf } from '../../../src/errors.ts'
import { makeFolder } from '../../../src/files/make-folder.ts'
import { LockFolderError } from './lock-error.ts'
import { assertAppId, assertServiceName, isServiceName, parseAppId } from './names.ts'

/** Anybody may make files in it, and remove only their own (spec §8.3). */
const SERVICE_MODE = 0o1777

const OTHERS_WRITE = 0o002
const GROUP_OR_OTHERS_WRITE = 0o022
const STICKY = 0o1000

/**
 * The folders `<root>/<appId>/<serviceName>/`. A container has the inside of the last one, so only
 * that may be hostile: root and the apps' folders are made sure to be ours alone.
 */
export class LockFolders {
  readonly root: string

  /** @param root Absolute; made by {@link open}. */
  constructor(root: string) {
    this.root = root
  }

  /**
   * Makes the root and checks that nobody else can put anything in its place.
   *
   * @throws {LockFolderError} When it cannot be made, or others may write to it or above it.
   */
  async open(): Promise<void> {
    await this.#using(this.root, async () => {
      makeFolder(this.root, 0o755)
      const real = await realpath(this.root)
      assertOurs(this.root, await stat(real))
      for (let at = real; dirname(at) !== at; ) {
        at = dirname(at)
        const above = await unlessHidden(stat(at))
        // Whoever withheld the rest of the way from the process has looked after it.
        if (!above) return
        assertSafeAbove(this.root, at, above)
      }
    })
  }

  /** Where a service's locks are; nothing is made. */
  path(appId: number, service: string): string {
    assertAppId(appId)
    assertServiceName(service)
    return join(this.root, String(appId), service)
  }

  /**
   * Makes a service's folder as needed, mode 1777.
   *
   * @throws {LockFolderError} When it cannot be made or is a link.
   */
  async make(appId: number, service: string): Promise<string> {
    const path = this.path(appId, service)
    await this.#using(path, async () => {
      const app = dirname(path)
      await unlessThere(mkdir(app, { mode: 0o755 }))
      assertOurs(app, await lstat(app))
      await unlessThere(mkdir(path, { mode: 0o755 }))
      await openUp(path)
    })
    return path
  }

  /** Services of an app that have a folder, sorted; links and other things are not counted. */
  async services(appId: number): Promise<string[]> {
    assertAppId(appId)
    const app = join(this.root, String(appId))
    return this.#using(app, async () => (await folderNames(app)).filter(isServiceName))
  }

  /** Apps that have a folder, in order of their ids. */
  async apps(): Promise<number[]> {
    const names = await this.#using(this.root, () => folderNames(this.root))
    const ids = names.map(parseAppId).filter((id) => id !== undefined)
    return ids.sort((a, b) => a - b)
  }

  async #using<T>(path: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (cause) {
      if (cause instanceof LockFolderError) throw cause
      throw new LockFolderError(`Cannot use lock folder "${path}": ${messageOf(cause)}`, { cause })
    }
  }
}

/**
 * Gives a service's folder its mode, whatever a container made of it; a link is refused. By path,
 * because a folder without permissions cannot be opened: nobody else can replace it in between.
 */
async function openUp(path: string): Promise<void> {
  const found = await lstat(path)
  if (!found.isDirectory()) {
    throw new LockFolderError(`Cannot use lock folder "${path}": it is no folder, remove it`)
  }
  if ((found.mode & 0o7777) !== SERVICE_MODE) await chmod(path, SERVICE_MODE)
}

/** Undefined for what Deno's flags do not let the process see. */
function unlessHidden<T>(found: Promise<T>): Promise<T | undefined> {
  return found.catch((error) => {
    if (error instanceof Error && /NotCapable|PermissionDenied/.test(error.name)) return undefined
    throw error
  })
}

function assertOurs(path: string, found: Stats): void {
  const fail = (why: string): never => {
    throw new LockFolderError(`Cannot use lock folder "${path}": ${why}`)
  }
  if (!found.isDirectory()) fail('it is no folder, remove it')
  if (!trusted(found.uid)) fail(`it belongs to uid ${found.uid}, remove it or change its owner`)
  if ((found.mode & GROUP_OR_OTHERS_WRITE) !== 0) fail('others may write to it, use mode 0755')
}

function assertSafeAbove(root: string, path: string, { uid, mode }: Stats): void {
  // In a sticky folder, as /tmp, nobody can replace what another one made.
  const safe = trusted(uid) && ((mode & OTHERS_WRITE) === 0 || (mode & STICKY) !== 0)
  if (safe) return
  throw new LockFolderError(
    `Cannot use lock folder "${root}": others may replace what is in "${path}", choose another one`,
  )
}

function trusted(uid: number): boolean {
  return uid === 0 || uid === process.getuid?.()
}

async function unlessThere(work: Promise<unknown>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error
  }
}

async function folderNames(path: string): Promise<string[]> {
  try {
    const entries = await readdir(path, { withFileTypes: true })
    return entries
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name)
      .sort()
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  }
}
