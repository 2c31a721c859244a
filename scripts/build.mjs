// Builds dist/cvmd.js (Node, one file), dist/plugin.js (what plugin authors import) and, where there
// is a C compiler, dist/device.node; or, with --binary, dist/cvmd (Bun, one file, the addon in it).
import { spawnSync } from 'node:child_process'
import { chmodSync } from 'node:fs'
import { build } from 'esbuild'
import { buildNative } from './native.mjs'

const COMMON = { bundle: true, platform: 'node', target: 'node20.19', format: 'esm' }

if (process.argv.includes('--binary')) binary()
else {
  await daemon()
  await kit()
  addon()
}

/** @returns {string[]} The native addon; nothing, after a line that says why, without a compiler. */
function addon() {
  const built = buildNative()
  if ('file' in built) return [built.file]
  console.error(`Built without the native addon: it needs ${built.missing}`)
  return []
}

async function daemon() {
  await build({
    ...COMMON,
    entryPoints: ['src/main.ts'],
    outfile: 'dist/cvmd.js',
    legalComments: 'linked',
    // Some dependencies are CommonJS and ask for `require`, which an ES module does not have.
    banner: {
      js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
    },
    logLevel: 'warning',
  })
  chmodSync('dist/cvmd.js', 0o755)
}

async function kit() {
  await build({
    ...COMMON,
    entryPoints: ['src/kit.ts'],
    outfile: 'dist/plugin.js',
    packages: 'external',
  })
}

function binary() {
  // The name of the output is part of the file: keep it, or the digest changes.
  const args = ['build', '--compile', '--minify', '--bytecode', '--format=esm']
  args.push('--no-compile-autoload-dotenv', '--no-compile-autoload-bunfig')
  // Compiles later: at the start there is more code that runs once than code that runs often.
  args.push('--compile-jit-policy=4')
  args.push('src/main.ts', ...addon(), '--outfile', 'dist/cvmd')
  const { status } = spawnSync('./node_modules/.bin/bun', args, { stdio: 'inherit' })
  process.exit(status ?? 1)
}
