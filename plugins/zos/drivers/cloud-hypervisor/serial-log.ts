import { open, truncate, writeFile } from 'node:fs/promises'
import { errnoOf } from '../../../../src/errors.ts'
import { MAX_SHOWN_LINES, shownLog } from '../shown-log.ts'

/** Read from the end for that many lines. */
const MAX_TAIL_BYTES = 1024 * 1024
/** Kept of a log that is cut. */
const KEPT_BYTES = 64 * 1024

/**
 * The last lines of a log, oldest first, without the values that are secret; '' when there is none.
 * Of the part before it was cut, some are in the file beside it.
 */
export async function lastLogLines(
  path: string,
  lines: number,
  secrets: readonly string[],
): Promise<string> {
  const most = Math.min(Math.max(Math.floor(lines), 0), MAX_SHOWN_LINES)
  if (most === 0) return ''
  const text = `${await tail(`${path}.1`, KEPT_BYTES)}${await tail(path, MAX_TAIL_BYTES)}`
  const found = text.split('\n')
  if (found.at(-1) === '') found.pop()
  return shownLog(found.slice(-most), secrets).join('\n')
}

/**
 * Cuts a log that takes more room than allowed, keeping its end in a file beside it. The hypervisor
 * goes on at its old place, so that the file then begins with a hole, which takes no room.
 */
export async function boundLog(path: string, maxBytes: number): Promise<void> {
  const handle = await open(path, 'r').catch((error) => {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  })
  if (handle === undefined) return
  let room: number
  try {
    const { blocks, size } = await handle.stat()
    room = Math.min(blocks * 512, size)
  } finally {
    await handle.close()
  }
  if (room <= maxBytes) return
  await writeFile(`${path}.1`, await tail(path, KEPT_BYTES), { mode: 0o600 })
  await truncate(path, 0)
}

/** The end of a file as text; '' when it is not there. */
async function tail(path: string, bytes: number): Promise<string> {
  const handle = await open(path, 'r').catch((error) => {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  })
  if (handle === undefined) return ''
  try {
    const { size } = await handle.stat()
    const length = Math.min(size, bytes)
    const buffer = Buffer.alloc(length)
    const { bytesRead } = await handle.read(buffer, 0, length, size - length)
    return buffer.toString('utf8', 0, bytesRead).replace(/\0+/g, '')
  } finally {
    await handle.close()
  }
}
