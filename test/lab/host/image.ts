import { readdirSync, readFileSync, realpathSync } from 'node:fs'
import { basename, join } from 'node:path'
import { command } from './command.ts'
import { type Node, writeCpio } from './cpio.ts'
import type { Kernel } from './kernel.ts'
import { PROJECT, SOURCES } from './lab.ts'

/** What the guest can run the daemon on, and how its `init` calls it. */
export const RUNTIMES = {
  node: { program: () => process.execPath, command: 'node' },
  bun: { program: () => join(PROJECT, 'node_modules/.bin/bun'), command: 'bun --no-install' },
  deno: {
    program: () => join(PROJECT, 'node_modules/.bin/deno'),
    command: 'deno run -A --no-check --quiet',
  },
} as const

/** `node`, `bun` or `deno`. */
export type RuntimeName = keyof typeof RUNTIMES

/**
 * Writes the initramfs: busybox, one runtime with its libraries, the kernel modules, the built
 * daemon, and the guest's programs.
 */
export function writeImage(
  path: string,
  kernel: Kernel,
  runtime: RuntimeName,
  programs: string,
): void {
  const tree = new Map<string, Node>()
  const put = (name: string, from: string | Uint8Array, mode = 0o644) =>
    tree.set(name, { kind: 'file', mode, from })
  const folders = ['bin', 'cvmd', 'cvmd/dist', 'dev', 'etc', 'lib64', 'modules', 'proc', 'root']
  for (const folder of [...folders, 'run', 'sys', 'tmp', 'var', 'var/lib']) {
    tree.set(folder, { kind: 'folder' })
  }
  tree.set('lib', { kind: 'link', to: 'lib64' })
  tree.set('var/run', { kind: 'link', to: '/run' })
  tree.set('bin/sh', { kind: 'link', to: 'busybox' })
  put('init', join(SOURCES, 'guest/init'), 0o755)
  put('bin/busybox', kernel.busybox, 0o755)
  for (const { name, bytes } of kernel.modules) put(`modules/${name}`, bytes)
  const program = realpathSync(RUNTIMES[runtime].program())
  put(`bin/${runtime}`, program, 0o755)
  for (const library of librariesOf(program)) put(`lib64/${basename(library)}`, library, 0o755)
  for (const name of ['cvmd.js', 'device.node']) {
    put(`cvmd/dist/${name}`, readFileSync(join(PROJECT, 'dist', name)))
  }
  for (const name of readdirSync(programs)) put(`cvmd/dist/${name}`, join(programs, name), 0o755)
  writeCpio(path, tree)
}

/** Paths of the shared libraries a program is linked to, with the loader. */
function librariesOf(program: string): readonly string[] {
  return (
    command('ldd', [program])
      .match(/\/\S+/g)
      ?.filter((path) => path.includes('.so')) ?? []
  )
}
