import { rm, rmdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '../../../../src/errors.ts'
import { temporaryBeside } from '../../../../src/files/atomic-file.ts'
import { makeFolder } from '../../../../src/files/make-folder.ts'
import { DriverError } from '../driver.ts'
import type { RunTool } from '../tools.ts'
import { makeDisk, replaceDisk } from './disk-file.ts'
import { contentOf, type FileSystem, format, growMounted, growUnmounted } from './file-system.ts'
import { found, namesIn } from './folders.ts'
import { PRIVATE, VISIBLE } from './modes.ts'
import { removeTree } from './remove-tree.ts'

/** Of the disk that tries out whether mounting works; enough for either file system. */
const TRIAL_BYTES = 64n * 1024n * 1024n

/** How often, and how far apart, a device that is to be free is looked at. */
const RELEASE_TRIES = 20
const RELEASE_MS = 50

/** File systems may not use the last part of a device that is less than this. */
const SLACK_BYTES = 1024n * 1024n

/** `btrfs_ioctl_resize` of fs/btrfs/ioctl.c makes no file system smaller than this. */
const BTRFS_LEAST_RESIZE = 256n * 1024n * 1024n

/** Mounts on top of each other that are taken away. */
const MAX_LAYERS = 8

/**
 * Mounts disks through loop devices. Needs root, or the rights to mount, and programs of util-linux
 * with those of ext4 or btrfs.
 *
 * A disk is formatted in a copy beside it that then takes its place, so that it is either blank or
 * complete, whenever the daemon ends.
 */
export class LoopMounts {
  readonly #run: RunTool
  readonly #dataDir: string
  #kind: FileSystem = 'ext4'

  constructor(run: RunTool, dataDir: string) {
    this.#run = run
    this.#dataDir = dataDir
  }

  /** Whether it works here; else why not. Never throws. */
  async probe(signal?: AbortSignal): Promise<string | undefined> {
    try {
      if (!(await this.#sharesMounts(signal))) {
        return 'the daemon has a mount namespace of its own, nobody else would see the files'
      }
    } catch {
      // Where it cannot be told, trying is what is left.
    }
    let why = ''
    for (const kind of ['ext4', 'btrfs'] as const) {
      this.#kind = kind
      try {
        await this.#trial(signal)
        return undefined
      } catch (error) {
        why ||= messageOf(error)
      }
    }
    return why
  }

  /** See `Mounter` in `mounter.ts`. */
  async attach(file: string, folder: string, signal?: AbortSignal): Promise<void> {
    try {
      if (!(await this.mounted(folder))) {
        // Files from when nothing could be mounted: mounting would hide them.
        if ((await found(folder)) && !(await removeIfEmpty(folder))) return
        await this.#mount(file, folder, signal)
      }
      await this.#grow(file, folder)
    } catch (error) {
      if (error instanceof DriverError) throw error
      throw new DriverError('transient', `Cannot mount disk "${file}": ${messageOf(error)}`, {
        cause: error,
      })
    }
  }

  /** Unmounts and removes a folder; one that is no mount point is removed with all in it. */
  async detach(folder: string): Promise<void> {
    for (let layer = 0; layer < MAX_LAYERS && (await this.mounted(folder)); layer++) {
      await this.#run(['umount', folder])
    }
    if (await this.mounted(folder)) throw new Error(`"${folder}" is still mounted`)
    if (!(await removeIfEmpty(folder))) await removeTree(this.#run, folder)
  }

  /** Whether another file system is there than around it. */
  async mounted(folder: string): Promise<boolean> {
    const [own, above] = [await found(folder), await found(dirname(folder))]
    return own !== undefined && above !== undefined && own.isDirectory() && own.dev !== above.dev
  }

  async #mount(file: string, folder: string, signal?: AbortSignal): Promise<void> {
    const { kind: content } = await contentOf(file)
    if (content === 'unknown') {
      throw new DriverError(
        'failed',
        `Cannot mount disk "${file}": it holds no file system known here`,
      )
    }
    if (content === 'blank') await this.#format(file, signal)
    makeFolder(dirname(folder), PRIVATE)
    makeFolder(folder, VISIBLE)
    const kind = content === 'blank' ? this.#kind : content
    if (kind === 'ext4' && (await isSmaller(file))) await growUnmounted(this.#run, file)
    await this.#mountAs(kind, file, folder)
    // Images that want an empty folder, such as databases, would stop at it; e2fsck makes it anew.
    if (content === 'blank') await rmdir(join(folder, 'lost+found')).catch(() => undefined)
  }

  async #format(file: string, signal?: AbortSignal): Promise<void> {
    const stats = await found(file)
    const copy = temporaryBeside(file)
    try {
      await makeDisk(copy, stats?.size ?? 0n)
      await format(this.#run, copy, this.#kind, signal)
      await replaceDisk(copy, file)
    } catch (error) {
      await rm(copy, { force: true })
      const why = messageOf(error)
      throw new DriverError('failed', `Cannot make a file system on disk "${file}": ${why}`, {
        cause: error,
      })
    }
  }

  async #mountAs(kind: FileSystem, file: string, folder: string): Promise<void> {
    // What a container puts there must not gain rights on the host.
    await this.#run(['mount', '-t', kind, '-o', 'loop,nosuid,nodev', file, folder])
  }

  /** Also after a crash between the growth of the file and this. */
  async #grow(file: string, folder: string): Promise<void> {
    const { kind } = await contentOf(file)
    if ((kind !== 'ext4' && kind !== 'btrfs') || !(await isSmaller(file))) return
    // The kernel refuses, and the files are as good as before.
    if (kind === 'btrfs' && ((await found(file))?.size ?? 0n) < BTRFS_LEAST_RESIZE) return
    const device = await this.#deviceOf(file)
    if (device === undefined) throw new Error('it has no loop device')
    try {
      await this.#run(['losetup', '--set-capacity', device])
      await growMounted(this.#run, kind, device, folder)
    } catch (error) {
      if (kind !== 'ext4') throw error
      await this.#growAside(file, folder)
    }
  }

  async #growAside(file: string, folder: string): Promise<void> {
    await this.#run(['umount', folder])
    try {
      // The kernel lets go of the device with the last mount, in whatever namespace, or soon after.
      for (let tries = 0; (await this.#deviceOf(file)) !== undefined; tries++) {
        if (tries === RELEASE_TRIES) throw new Error('somebody else has it mounted')
        await sleep(RELEASE_MS)
      }
      await growUnmounted(this.#run, file)
    } finally {
      await this.#mountAs('ext4', file, folder)
    }
  }

  async #deviceOf(file: string): Promise<string | undefined> {
    const argv = ['losetup', '--associated', file, '--noheadings', '--output', 'NAME']
    const name = (await this.#run(argv)).trim().split('\n')[0] ?? ''
    return name.startsWith('/dev/') ? name : undefined
  }

  async #sharesMounts(signal?: AbortSignal): Promise<boolean> {
    // By a program: Deno hides /proc from scripts.
    const links = await this.#run(['readlink', '/proc/1/ns/mnt', '/proc/self/ns/mnt'], { signal })
    const [first, own] = links.trim().split('\n')
    return first === own
  }

  async #trial(signal?: AbortSignal): Promise<void> {
    const folder = join(this.#dataDir, 'trial')
    const file = join(folder, 'disk')
    const mounted = join(folder, 'mounted')
    makeFolder(folder, PRIVATE)
    try {
      // Left by a trial that was killed.
      await this.detach(mounted)
      await rm(file, { force: true })
      await makeDisk(file, TRIAL_BYTES)
      await this.#mount(file, mounted, signal)
      await this.#grow(file, mounted)
    } finally {
      await this.detach(mounted).catch(() => undefined)
      if (!(await this.mounted(mounted))) await rm(folder, { recursive: true, force: true })
    }
  }
}

/** Removes a folder that is empty, or is not there; false when it is neither. */
async function removeIfEmpty(folder: string): Promise<boolean> {
  if (!(await found(folder))) return true
  if ((await namesIn(folder)).length > 0) return false
  await rmdir(folder)
  return true
}

/** Whether the file system leaves a part of its file unused. */
async function isSmaller(file: string): Promise<boolean> {
  const [{ bytes }, stats] = [await contentOf(file), await found(file)]
  return stats !== undefined && stats.size - bytes >= SLACK_BYTES
}
