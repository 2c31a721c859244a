import { open } from 'node:fs/promises'
import { messageOf } from '../errors.ts'

/**
 * Reads a file of UTF-8 text, which may be one that has no size, as those below /proc.
 *
 * @throws {Error} `Cannot read "PATH": …` when it is not there, has more bytes or is no text.
 */
export async function readTextFile(path: string, maxBytes: number): Promise<string> {
  try {
    const bytes = await readStart(path, maxBytes + 1)
    if (bytes.length > maxBytes) throw new RangeError(`it has more than ${maxBytes} bytes`)
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (cause) {
    const why = cause instanceof TypeError ? 'it is no UTF-8 text' : messageOf(cause)
    throw new Error(`Cannot read "${path}": ${why}`, { cause })
  }
}

async function readStart(path: string, length: number): Promise<Uint8Array> {
  const file = await open(path, 'r')
  try {
    const bytes = new Uint8Array(length)
    let filled = 0
    for (;;) {
      const { bytesRead } = await file.read(bytes, filled, length - filled)
      filled += bytesRead
      if (bytesRead === 0 || filled === length) return bytes.subarray(0, filled)
    }
  } finally {
    await file.close()
  }
}
