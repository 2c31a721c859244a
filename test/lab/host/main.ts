/** Builds the lab, boots its guests, and prints what they found as TAP. */
import { existsSync, mkdirSync, rmSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { boot, prepareQemu } from './boot.ts'
import { writeFirmware } from './firmware.ts'
import { RUNTIMES, type RuntimeName, writeImage } from './image.ts'
import { KERNELS, type KernelName, prepareKernel } from './kernel.ts'
import { defaultFolder, PROJECT } from './lab.ts'
import { mirror } from './packages.ts'
import { linksStatically, writePrograms } from './programs.ts'
import { Report } from './report.ts'

const HELP = `Usage: test/lab/run [GUEST ...] [--dir DIR] [--only TEXT] [--verbose]

GUEST      runtime, or runtime@kernel; default: node
             runtimes: ${Object.keys(RUNTIMES).join(', ')}
             kernels:  ${Object.keys(KERNELS).join(', ')}
--dir      folder for packages and images; default: ${defaultFolder()}
--only     run only tests whose name contains TEXT
--verbose  print the guests' whole console`

/** After how many seconds a guest that does not end is switched off; it needs about 60. */
const LIMIT_S = 600

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    dir: { type: 'string', default: defaultFolder() },
    only: { type: 'string', default: '' },
    verbose: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

if (options.help) console.log(HELP)
else process.exitCode = await main()

async function main(): Promise<number> {
  const chosen = (positionals.length > 0 ? positionals : ['node']).map(guestNamed)
  const lacking = missing()
  if (lacking.length > 0) {
    const what = `the lab needs ${lacking.join(', ')}`
    const required = (process.env.CVMD_REQUIRE ?? '').split(',').includes('lab')
    console.log(required ? `Bail out! ${what}` : `1..0 # SKIP ${what}`)
    return required ? 1 : 0
  }
  const started = performance.now()
  const dir = resolve(options.dir)
  mkdirSync(dir, { recursive: true })
  const qemu = prepareQemu(dir)
  const waiting = chosen.map((guest) => ({ ...guest, kernel: prepareKernel(guest.kernel, dir) }))
  const programs = join(dir, 'programs')
  await writePrograms(programs)
  const firmware = writeFirmware(dir)
  console.log(`# ready after ${seconds(started)} s`)

  const report = new Report(options.verbose)
  const worker = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const begun = performance.now()
      const { name, runtime, kernel } = next
      const image = join(dir, `${name}.cpio`)
      writeImage(image, kernel, runtime, programs)
      const guest = report.guest(name)
      const { command } = RUNTIMES[runtime]
      const limits = { only: options.only, limitS: LIMIT_S }
      await boot({ qemu, kernel, image, firmware, command, ...limits }, guest.line)
      rmSync(image)
      guest.end(`Linux ${kernel.release}, ${seconds(begun)} s`)
    }
  }
  // An emulated machine keeps one core busy.
  await Promise.all(Array.from({ length: availableParallelism() }, worker))
  return report.end()
}

/** What this machine lacks for the lab, in words. */
function missing(): string[] {
  const needs: readonly (readonly [string, boolean])[] = [
    ['Linux on x86-64', process.platform === 'linux' && process.arch === 'x64'],
    ['Debian and its packages', mirror() !== undefined],
    ['cvmd built with its addon (a C compiler and npm run build)', isBuilt()],
    ['a C compiler with a static C library', linksStatically()],
  ]
  return needs.filter(([, present]) => !present).map(([what]) => what)
}

function isBuilt(): boolean {
  return ['cvmd.js', 'device.node'].every((name) => existsSync(join(PROJECT, 'dist', name)))
}

/** `node` or `node@unstable`. */
function guestNamed(name: string): {
  readonly name: string
  readonly runtime: RuntimeName
  readonly kernel: KernelName
} {
  const [runtime = '', kernel = 'bookworm-backports'] = name.split('@')
  if (!(runtime in RUNTIMES) || !(kernel in KERNELS)) {
    throw new Error(`Cannot boot guest "${name}", see test/lab/run --help`)
  }
  return { name, runtime: runtime as RuntimeName, kernel: kernel as KernelName }
}

function seconds(since: number): string {
  return ((performance.now() - since) / 1000).toFixed(1)
}
