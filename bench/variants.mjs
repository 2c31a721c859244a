// What can be measured on this machine: cvmd and the bare Hono server on each runtime.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { build } from 'esbuild'

const bin = (name) => resolve(`node_modules/.bin/${name}`)
// From here on nothing may depend on the folder a server runs in.
const path = (name) => resolve(name)

/** Runs a TypeScript file on a runtime: `[command, arguments]`. */
export function typescript(runtime, file) {
  if (runtime === 'bun') return [bin('bun'), ['--no-install', path(file)]]
  if (runtime === 'deno') return [bin('deno'), ['run', '-A', '--no-check', '--quiet', path(file)]]
  return [process.execPath, ['--import', import.meta.resolve('tsx'), path(file)]]
}

/** The names of all variants; `binary` is the single file made by Bun. */
export const RUNTIMES = ['node', 'bun', 'binary', 'deno']

/**
 * The servers to compare, in pairs: `{ runtime, app: 'hello' | 'cvmd', command, args }`. The bare
 * server is built the way cvmd is: one file for Node, a compiled one beside the binary.
 *
 * @returns {{ variants: object[], missing: string[], remove(): void }} `missing` says what cannot
 *   be measured here and why.
 */
export async function servers(runtimes = RUNTIMES) {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-bench-'))
  const remove = () => rmSync(folder, { recursive: true, force: true })
  const variants = []
  const missing = []
  const add = (runtime, app, [command, args]) => variants.push({ runtime, app, command, args })
  try {
    for (const runtime of runtimes) {
      const built = { node: 'dist/cvmd.js', binary: 'dist/cvmd' }[runtime]
      if (built !== undefined && !existsSync(built)) {
        const script = runtime === 'node' ? 'build' : 'build:binary'
        missing.push(`${runtime}: there is no ${built}, run npm run ${script}`)
      } else if (runtime === 'node') {
        const hello = await bundleHello(join(folder, 'hello.mjs'))
        add(runtime, 'hello', [process.execPath, [hello]])
        add(runtime, 'cvmd', [process.execPath, [path(built)]])
      } else if (runtime === 'binary') {
        add(runtime, 'hello', [compileHello(join(folder, 'hello')), []])
        add(runtime, 'cvmd', [path(built), []])
      } else {
        add(runtime, 'hello', typescript(runtime, 'bench/hello.ts'))
        add(runtime, 'cvmd', typescript(runtime, 'src/main.ts'))
      }
    }
  } catch (error) {
    remove()
    throw error
  }
  return { variants, missing, remove }
}

async function bundleHello(outfile) {
  const entryPoints = ['bench/hello.ts']
  await build({ entryPoints, outfile, bundle: true, platform: 'node', format: 'esm' })
  return outfile
}

/** With the flags of scripts/build.mjs. */
function compileHello(outfile) {
  const args = [
    'build',
    '--compile',
    '--minify',
    '--bytecode',
    '--compile-jit-policy=4',
    '--format=esm',
  ]
  args.push('--no-compile-autoload-dotenv', '--no-compile-autoload-bunfig')
  const run = spawnSync(bin('bun'), [...args, 'bench/hello.ts', '--outfile', outfile])
  if (run.status !== 0) throw new Error(`Cannot compile bench/hello.ts: ${run.stderr}`)
  return outfile
}
