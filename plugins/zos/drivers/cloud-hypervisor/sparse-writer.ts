import { type FileHandle, open, rename, rm } from 'node:fs/promises'
import { DriverError } from '../driver.ts'

/** Starts of what is no raw disk, and how to make one. */
const FORMATS: readonly (readonly [name: string, start: readonly number[]])[] = [
  ['a qcow2 image', [0x51, 0x46, 0x49, 0xfb]],
  ['a vhdx image', [0x76, 0x68, 0x64, 0x78, 0x66, 0x69, 0x6c, 0x65]],
  ['a vhd image', [0x63, 0x6f, 0x6e, 0x65, 0x63, 0x74, 0x69, 0x78]],
  ['a vmdk image', [0x4b, 0x44, 0x4d, 0x56]],
  ['compressed (gzip)', [0x1f, 0x8b]],
  ['compressed (xz)', [0xfd, 0x37, 0x7a, 0x58, 0x5a]],
  ['compressed (zstd)', [0x28, 0xb5, 0x2f, 0xfd]],
]
const BLOCK = 64 * 1024
const ZEROS = Buffer.alloc(BLOCK)

/**
 * Writes a disk from a stream, with holes where the stream has zeros, and gives it its whole size at
 * the end. The disk is there complete or not at all.
 *
 * @param size Bytes of the disk; more in the stream is an error.
 * @param what The image, for messages.
 * @throws {DriverError} `failed` for an image that is too large, empty, or not raw.
 */
export async function writeDisk(
  path: string,
  size: bigint,
  what: string,
  chunks: AsyncIterable<Uint8Array>,
): Promise<void> {
  const part = `${path}.part`
  await rm(part, { force: true })
  const handle = await open(part, 'wx', 0o600)
  try {
    await fill(handle, size, what, chunks)
    await handle.truncate(Number(size))
    await handle.sync()
    await handle.close()
    await rename(part, path)
  } catch (error) {
    await handle.close().catch(() => {})
    await rm(part, { force: true })
    throw error
  }
}

async function fill(
  handle: FileHandle,
  size: bigint,
  what: string,
  chunks: AsyncIterable<Uint8Array>,
): Promise<void> {
  let at = 0
  let checked = false
  let start = Buffer.alloc(0)
  for await (const chunk of chunks) {
    if (BigInt(at + chunk.length) > size) {
      throw new DriverError(
        'failed',
        `Cannot use ${what}: it is above the root disk's ${size} bytes, ask for a larger size`,
      )
    }
    if (!checked) {
      start = Buffer.concat([start, chunk])
      checked = start.length >= 8
      if (checked) refuseFormat(start, what)
    }
    await writeBlocks(handle, chunk, at)
    at += chunk.length
  }
  if (at < 512)
    throw new DriverError('failed', `Cannot use ${what}: it has ${at} bytes, which is no disk`)
}

async function writeBlocks(handle: FileHandle, chunk: Uint8Array, at: number): Promise<void> {
  for (let from = 0; from < chunk.length; from += BLOCK) {
    const block = chunk.subarray(from, from + BLOCK)
    if (ZEROS.compare(block, 0, block.length, 0, block.length) === 0) continue
    let done = 0
    while (done < block.length) {
      const { bytesWritten } = await handle.write(
        block,
        done,
        block.length - done,
        at + from + done,
      )
      done += bytesWritten
    }
  }
}

function refuseFormat(start: Uint8Array, what: string): void {
  for (const [name, bytes] of FORMATS) {
    if (!bytes.every((byte, index) => start[index] === byte)) continue
    throw new DriverError(
      'failed',
      `Cannot use ${what}: it is ${name}, and only raw disks are offered`,
    )
  }
}
