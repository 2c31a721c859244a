import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { TestContext } from 'node:test'
import { loadAddon } from '../../src/device/native.ts'
import type { Transport } from '../../src/device/transport.ts'
import { lacks } from '../helpers/counterpart.ts'

export const TSM = '/sys/kernel/config/tsm/report'
export const REGISTERS = '/sys/devices/virtual/misc/tdx_guest/measurements'

/** A folder that stands for a machine's root. */
export interface Tree {
  readonly root: string
  /** Makes a file and the folders above it. */
  put(path: string, content?: string | Uint8Array): void
  mkdir(path: string): void
  remove(): void
}

/** A machine with the devices' folders and nodes, all of them ordinary. */
export function machineTree(): Tree {
  const root = mkdtempSync(join(tmpdir(), 'cvmd-machine-'))
  const tree: Tree = {
    root,
    put: (path, content = '') => {
      mkdirSync(dirname(join(root, path)), { recursive: true })
      writeFileSync(join(root, path), content)
    },
    mkdir: (path) => mkdirSync(join(root, path), { recursive: true }),
    remove: () => rmSync(root, { recursive: true, force: true }),
  }
  tree.mkdir(TSM)
  tree.mkdir(REGISTERS)
  tree.put('/dev/nsm')
  tree.put('/dev/tdx_guest')
  tree.put('/proc/meminfo', 'MemTotal: 1 kB\n')
  return tree
}

/** A build of the addon whose paths lie below a tree and whose ioctls are answered by a fake. */
export interface TestAddon extends Tree {
  readonly file: string
  readonly transport: Transport
}

/** Builds and loads it; undefined, with the test skipped, without a compiler. */
export function testAddon(t: TestContext): TestAddon | undefined {
  if (lacks(t, 'cc')) return undefined
  const tree = machineTree()
  const file = join(tree.root, 'device.node')
  buildAddon(
    ['--out', file],
    ['-include', 'test/native/fake-kernel.h', `-DFAKE_ROOT="${tree.root}"`],
  )
  const native = loadAddon(file)
  if (!('transport' in native)) throw new Error(native.reason)
  return { ...tree, file, transport: native.transport }
}

/** Runs scripts/native.mjs. */
export function buildAddon(options: readonly string[], flags: readonly string[] = []): void {
  const { status, stderr } = spawnSync('node', ['scripts/native.mjs', ...options, '--', ...flags], {
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(stderr)
}

/** Mounts a fresh tmpfs; false where that may not be done. */
export function tmpfs(folder: string, options: string): boolean {
  return spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', folder]).status === 0
}

/** Lazily: the C library keeps what it could map of a file before it failed to load it. */
export function unmount(folder: string): void {
  spawnSync('umount', ['-l', folder])
}
