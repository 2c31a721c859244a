import { readTextFile } from '../../src/files/text-file.ts'
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
  return await readTextFile(configured.file, MAX_BYTES)
}
