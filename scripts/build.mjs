// Builds dist/cvmd.js (Node, one file) or, with --binary, dist/cvmd (Bun, one file).
import { spawnSync } from 'node:child_process'
import { chmodSync } from 'node:fs'
import { build } from 'esbuild'

if (process.argv.includes('--binary')) binary()
else await node()

async function node() {
  await build({
    entryPoints: ['src/main.ts'],
    outfile: 'dist/cvmd.js',
    bundle: true,
    platform: 'node',
    target: 'node20.19',
    format: 'esm',
    legalComments: 'linked',
    // Some dependencies are CommonJS and ask for `require`, which an ES module does not have.
    banner: {
      js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
    },
    logLevel: 'warning',
  })
  chmodSync('dist/cvmd.js', 0o755)
}

function binary() {
  // The name of the output is part of the file: keep it, or the digest changes.
  const args = ['build', '--compile', '--minify', '--bytecode', '--format=esm']
  args.push('--no-compile-autoload-dotenv', '--no-compile-autoload-bunfig')
  args.push('src/main.ts', '--outfile', 'dist/cvmd')
  const { status } = spawnSync('./node_modules/.bin/bun', args, { stdio: 'inherit' })
  process.exit(status ?? 1)
}
