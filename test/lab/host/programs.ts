import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { build } from 'esbuild'
import { command } from './command.ts'
import { SOURCES } from './lab.ts'

/** Writes the guest's programs, each in one file, into a folder. */
export async function writePrograms(into: string): Promise<void> {
  const source = (name: string) => join(SOURCES, 'guest', name)
  await build({
    entryPoints: ['tests.ts', 'backend.ts'].map(source),
    outdir: into,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    target: 'node20.19',
    format: 'esm',
    logLevel: 'warning',
  })
  command('cc', ['-O2', '-Wall', '-static', '-o', join(into, 'quote'), source('quote.c')])
}

/** Whether there is a C compiler, and a C library to link statically. */
export function linksStatically(): boolean {
  // A compiler that does not find the file repeats its name.
  const { stdout } = spawnSync('cc', ['-print-file-name=libc.a'], { encoding: 'utf8' })
  return stdout?.startsWith('/') ?? false
}
