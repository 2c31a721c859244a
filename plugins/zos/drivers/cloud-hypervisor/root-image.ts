import { createReadStream } from 'node:fs'
import { realpath, stat } from 'node:fs/promises'
import { join, sep } from 'node:path'
import { errnoOf } from '../../../../src/errors.ts'
import { DriverError } from '../driver.ts'
import { type DownloadOptions, download } from './download.ts'
import { writeDisk } from './sparse-writer.ts'

/** Where the root disk of a machine comes from. */
export type RootImage =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'url'; readonly url: URL }

const OFFERED =
  'virtual machines start from "https://host/disk.img" or "file:///disk.raw" with a raw disk'

/**
 * What the `flist` of a machine names.
 *
 * @throws {DriverError} `failed` for anything else, saying what is offered.
 */
export function rootImageOf(flist: string): RootImage {
  const refuse = (why: string) =>
    new DriverError('failed', `cannot use flist "${shown(flist)}": ${why}; ${OFFERED}`)
  if (flist.startsWith('docker://')) throw refuse('this node runs no containers as machines')
  if (!URL.canParse(flist) || flist.length > 2000) throw refuse('it is no URL')
  const url = new URL(flist)
  if (/\.flist$/i.test(url.pathname)) throw refuse('flists are not mounted here')
  if (url.protocol === 'file:') {
    if (url.host !== '') throw refuse('a file is on this node, without a host')
    const path = decoded(url.pathname)
    if (path === undefined || path.includes('\0')) throw refuse('its path cannot be decoded')
    return { kind: 'file', path }
  }
  if (url.protocol !== 'https:') throw refuse('unknown image source')
  if (!/\.(?:img|raw)$/i.test(url.pathname))
    throw refuse('its path ends with neither .img nor .raw')
  return { kind: 'url', url }
}

export interface RootImageOptions extends DownloadOptions {
  /** Folder of the operator's images, which `file:///` stands for; left out, none are offered. */
  readonly imageDir?: string | undefined
}

/**
 * Makes the root disk of a machine from its image.
 *
 * @param size Bytes of the disk.
 * @throws {DriverError} `failed` for an image that cannot be used, `transient` where it may come later.
 */
export async function makeRootDisk(
  image: RootImage,
  path: string,
  size: bigint,
  options: RootImageOptions,
  task: { progress(text: string): void; readonly signal: AbortSignal },
): Promise<void> {
  if (image.kind === 'url') {
    const what = `image ${JSON.stringify(shown(image.url.href))}`
    await writeDisk(path, size, what, download(image.url, size, options, task))
    return
  }
  const what = `image "file://${image.path.slice(0, 200)}"`
  const source = await imagePath(image.path, options.imageDir, what)
  const chunks = createReadStream(source, { signal: task.signal, highWaterMark: 1024 * 1024 })
  await writeDisk(path, size, what, chunks)
}

/** A file below the folder of images, wherever links lead. */
async function imagePath(path: string, dir: string | undefined, what: string): Promise<string> {
  if (dir === undefined) {
    throw new DriverError(
      'failed',
      `Cannot use ${what}: this node keeps no images; use "https://…"`,
    )
  }
  try {
    const folder = await realpath(dir)
    const found = await realpath(join(folder, path))
    if (found.startsWith(folder + sep) && (await stat(found)).isFile()) return found
  } catch (error) {
    if (errnoOf(error) === undefined) throw error
  }
  throw new DriverError('failed', `Cannot use ${what}: this node keeps no image of this name`)
}

function decoded(path: string): string | undefined {
  try {
    return decodeURIComponent(path)
  } catch {
    return undefined
  }
}

/** An address may have a password in it, or a token after it. */
function shown(flist: string): string {
  return flist
    .replace(/\/\/[^/@]*@/, '//')
    .replace(/[?#].*$/, '')
    .slice(0, 200)
}
