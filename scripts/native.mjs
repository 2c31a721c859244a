// Builds native/device.c into dist/device.node, with one `cc` line and nothing else:
//   node scripts/native.mjs [--arch x64|arm64] [--sanitize] [--out FILE] [-- more compiler flags]
// Another architecture than this machine's needs its cross compiler and gives
// dist/device-<arch>.node. CC names another compiler.
import { spawnSync } from 'node:child_process'
import { mkdirSync, renameSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

/** What the two architectures differ in. */
const ARCHES = {
  x64: { cross: 'x86_64-linux-gnu-gcc', flags: ['-fcf-protection=full'] },
  arm64: { cross: 'aarch64-linux-gnu-gcc', flags: ['-mbranch-protection=standard'] },
}

const FLAGS = [
  ...['-std=c11', '-D_DEFAULT_SOURCE', '-DNAPI_VERSION=8'],
  ...['-Wall', '-Wextra', '-Wpedantic', '-Wshadow', '-Wvla', '-Werror'],
  ...['-shared', '-fPIC', '-pthread', '-fvisibility=hidden'],
]
const RELEASE = [
  ...['-O2', '-U_FORTIFY_SOURCE', '-D_FORTIFY_SOURCE=2'],
  ...['-fstack-protector-strong', '-fstack-clash-protection'],
  // No path and no time of this machine in the file.
  ...['-s', '-Wl,--build-id=none', `-ffile-prefix-map=${ROOT}=`],
  ...['-Wl,-z,relro,-z,now,-z,noexecstack', '-Wl,--as-needed'],
]
const SANITIZE = ['-O1', '-g', '-fno-omit-frame-pointer', '-fsanitize=address,undefined']
// A thread may still be in a call when the last worker that loaded the file is gone.
const LINK = ['-Wl,-z,nodelete']

/**
 * Compiles the addon.
 *
 * @param {{ arch?: string, sanitize?: boolean, out?: string, flags?: readonly string[] }} options
 * @returns {{ file: string } | { missing: string }} The file, or the compiler that is not here.
 * @throws {Error} When there is a compiler and it fails.
 */
export function buildNative(options = {}) {
  const { arch = process.arch, sanitize = false, flags = [] } = options
  const target = ARCHES[arch]
  if (!target) return { missing: `support for ${arch}: native/device.c is built for x64 and arm64` }
  const own = arch === process.arch
  const file = options.out ?? join(ROOT, 'dist', own ? 'device.node' : `device-${arch}.node`)
  const compiler = own ? (process.env.CC ?? 'cc') : target.cross
  mkdirSync(dirname(file), { recursive: true })
  // Whoever has the old file loaded keeps it.
  const fresh = `${file}.${process.pid}`
  const include = join(ROOT, 'node_modules/node-api-headers/include')
  const args = [
    ...FLAGS,
    ...(sanitize ? SANITIZE : [...RELEASE, ...target.flags]),
    ...LINK,
    ...flags,
    ...['-isystem', include, join(ROOT, 'native/device.c'), '-o', fresh],
  ]
  const { error, status, stderr } = spawnSync(compiler, args, { encoding: 'utf8' })
  if (error?.code === 'ENOENT') return { missing: `a C compiler (${compiler})` }
  if (error) throw error
  if (status !== 0) throw new Error(`Cannot build native/device.c with ${compiler}:\n${stderr}`)
  renameSync(fresh, file)
  return { file }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const { values, positionals } = parseArgs({
    options: {
      arch: { type: 'string' },
      sanitize: { type: 'boolean' },
      out: { type: 'string' },
    },
    allowPositionals: true,
  })
  const built = buildNative({ ...values, flags: positionals })
  if ('missing' in built) {
    console.error(`Cannot build the native addon: it needs ${built.missing}`)
    process.exit(1)
  }
  console.log(built.file)
}
