import { open } from 'node:fs/promises'

/**
 * Reads a small file that nobody but its owner may read.
 *
 * @param most Bytes; a larger file is refused.
 * @throws {Error} The system error, or naming the file that is too large or open to others.
 */
export async function readSecretFile(path: string, most: number): Promise<Uint8Array> {
  const file = await open(path, 'r')
  try {
    const { mode, size } = await file.stat()
    if ((mode & 0o077) !== 0) {
      const bits = (mode & 0o777).toString(8).padStart(4, '0')
      throw new Error(`Cannot use "${path}": others have access to it (mode ${bits}), use 0600`)
    }
    if (size > most) {
      throw new Error(`Cannot use "${path}": it has ${size} bytes, at most ${most} are read`)
    }
    const bytes = new Uint8Array(most + 1)
    let filled = 0
    for (;;) {
      const { bytesRead } = await file.read(bytes, filled, bytes.length - filled)
      filled += bytesRead
      if (filled > most) throw new Error(`Cannot use "${path}": it is larger than ${most} bytes`)
      if (bytesRead === 0) return bytes.subarray(0, filled)
    }
  } finally {
    await file.close()
  }
}
