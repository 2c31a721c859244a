import { open } from 'node:fs/promises'
import type { Config } from './config.ts'

/** It is part of every quote's answer. */
const MAX_BYTES = 64 * 1024

/**
 * The text that goes with every quote (`vm_config`, spec dstack §6.5): the configured one, or the
 * content of the configured file.
 *
 * @throws {Error} When the file cannot be read, is larger than 64 KiB or no UTF-8.
 */
export async function readVmConfig(configured: Config['vm_config']): Promise<string> {
  if (typeof configured === 'string') return configured
  const bytes = await readStart(configured.file, MAX_BYTES + 1)
  if (bytes.length > MAX_BYTES) {
    throw new RangeError(`Cannot read "${configured.file}": it is larger than ${MAX_BYTES} bytes`)
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new TypeError(`Cannot read "${configured.file}": it is no UTF-8 text`, { cause })
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
