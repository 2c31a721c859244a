import { spawn } from 'node:child_process'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Firmware } from './firmware.ts'
import type { Kernel } from './kernel.ts'
import { once } from './lab.ts'
import { PackageIndex } from './packages.ts'

/** What a guest is given. */
export interface Guest {
  /** Of {@link prepareQemu}. */
  readonly qemu: string
  readonly kernel: Kernel
  readonly image: string
  readonly firmware: Firmware
  /** Command that runs a JavaScript file in the guest. */
  readonly command: string
  /** Text in the names of the tests to run. */
  readonly only: string
  /** Seconds after which the machine is switched off. */
  readonly limitS: number
}

/**
 * Fetches QEMU with every library it needs.
 *
 * @returns The folder that stands for the root of its system.
 */
export function prepareQemu(folder: string): string {
  const made = once(join(folder, 'qemu'), (into) => {
    // 7.2, the older of the two, corrupts the guest now and then by its CMPXCHG16B.
    const index = new PackageIndex(join(into, 'apt'), ['bookworm', 'bookworm-backports'])
    index.unpack(join(into, 'root'), ['qemu-system-x86'], [])
    rmSync(join(into, 'apt'), { recursive: true })
  })
  return join(made, 'root')
}

/** The last line of a guest's console: of its `init`, or of a kernel that gave up. */
const LAST_LINE = /^lab: exit \d+$|end Kernel panic/

/**
 * Boots a guest under software emulation and hands each line of its console to `line`; it is
 * switched off after its last line. One processor and a q35 machine: with two, or as a microvm,
 * QEMU 7.2 and 10.0 crash or hang this kernel now and then.
 */
export function boot(guest: Guest, line: (text: string) => void): Promise<void> {
  const libraries = join(guest.qemu, 'usr/lib/x86_64-linux-gnu')
  const loader = join(libraries, 'ld-linux-x86-64.so.2')
  const program = join(guest.qemu, 'usr/bin/qemu-system-x86_64')
  const child = spawn(loader, ['--library-path', libraries, program, ...machine(guest)], {
    stdio: ['ignore', 'pipe', 'pipe'],
    // Its emulation is a module of its own.
    env: { ...process.env, QEMU_MODULE_DIR: join(libraries, 'qemu') },
  })
  const limit = setTimeout(() => {
    line(`lab: switched off after ${guest.limitS} s`)
    child.kill('SIGKILL')
  }, guest.limitS * 1000)
  createInterface({ input: child.stdout }).on('line', (text) => {
    line(text)
    if (LAST_LINE.test(text)) child.kill('SIGKILL')
  })
  createInterface({ input: child.stderr }).on('line', (text) => line(`qemu: ${text}`))
  return new Promise((done, failed) => {
    child.once('error', failed)
    child.once('close', () => {
      clearTimeout(limit)
      done()
    })
  })
}

function machine({ qemu, kernel, image, firmware, command, only }: Guest): string[] {
  const kernelLine = [
    // Only what is worse than an error goes to the console, where it may break into other lines.
    ...['console=ttyS0', 'loglevel=3', firmware.kernel],
    // The kernel passes what it does not know on to the first process.
    ...[`LAB_COMMAND="${command}"`, `LAB_ONLY="${only}"`],
  ].join(' ')
  return [
    ...['-machine', 'q35', '-accel', 'tcg', '-cpu', 'max'],
    ...['-m', '2048', '-nodefaults', '-nographic', '-no-reboot', '-serial', 'stdio'],
    ...['-L', join(qemu, 'usr/share/qemu'), '-L', join(qemu, 'usr/share/seabios')],
    ...['-kernel', kernel.image, '-initrd', image, '-append', kernelLine, ...firmware.qemu],
  ]
}
