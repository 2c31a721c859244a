import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withMemoryFile } from '../runtime.ts'

/** Where to put the addon when it cannot be loaded from memory, best first. */
const folders = () => [...new Set([tmpdir(), '/var/tmp', '/dev/shm', '/run'])]

/**
 * Loads the addon that is part of this program. The loader wants a file: that is one in memory
 * (memfd_create(2)), which no mount option forbids to execute and which leaves nothing behind.
 * Where the machine allows no such files (sysctl vm.memfd_noexec, no /proc), it is one in a
 * private folder, removed again at once; the first folder that is writable and not `noexec` does.
 *
 * @param open Loads a file.
 * @throws {Error} When there is no way; its message names each that was tried.
 */
export function loadFromMemory<T>(image: Uint8Array, open: (file: string) => T): T {
  const failures: string[] = []
  const ways = [
    { where: 'memory', load: () => withMemoryFile('device.node', image, open) },
    ...folders().map((where) => ({ where, load: () => withPrivateFile(where, image, open) })),
  ]
  for (const { where, load } of ways) {
    try {
      return load()
    } catch (error) {
      failures.push(`${where}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  throw new Error(failures.join('; '))
}

function withPrivateFile<T>(where: string, image: Uint8Array, open: (file: string) => T): T {
  const folder = mkdtempSync(join(where, 'cvmd-device-'))
  try {
    const file = join(folder, 'device.node')
    writeFileSync(file, image, { flag: 'wx' })
    chmodSync(file, 0o500)
    return open(file)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
