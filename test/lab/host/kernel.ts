import { cpSync, readdirSync, rmSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { command, commandBytes } from './command.ts'
import { digestOf, once, SOURCES } from './lab.ts'
import { PackageIndex } from './packages.ts'

/** Kernels the lab boots, by the Debian suites they come from. */
export const KERNELS = {
  /** Linux 6.12: as deployed today, without measurement files. */
  'bookworm-backports': ['bookworm', 'bookworm-backports'],
  /** Linux 7: with measurement files. */
  unstable: ['unstable'],
} as const

/** A suite of {@link KERNELS}. */
export type KernelName = keyof typeof KERNELS

/** A kernel that can be booted, with the modules the guest loads, in that order. */
export interface Kernel {
  /** `6.12.95+deb12-cloud-amd64` */
  readonly release: string
  readonly image: string
  readonly modules: readonly { readonly name: string; readonly bytes: string | Uint8Array }[]
  /** A static busybox of the same suite. */
  readonly busybox: string
}

/** Fetches a stock kernel, and builds `teelab` for it with the compiler it was built with. */
export function prepareKernel(name: KernelName, folder: string): Kernel {
  const root = join(
    once(join(folder, name), (into) => fetchKernel(name, into)),
    'root',
  )
  const release = readdirSync(join(root, 'lib/modules'))[0] as string
  const busybox = join(root, 'bin/busybox')
  const drivers = join(root, 'lib/modules', release, 'kernel')
  const find = (folder: string, pattern: RegExp) => join(folder, findFile(folder, pattern))
  const stock = [/^configfs\.ko/, /^tsm(_report)?\.ko/, /^nsm\.ko/].map((pattern, index) => ({
    name: `${index}.ko`,
    bytes: commandBytes(busybox, ['unxz', '-c', find(drivers, pattern)]),
  }))
  const teelab = join(buildModule(root, release, folder), 'teelab.ko')
  return {
    release,
    image: find(root, /^vmlinuz/),
    modules: [...stock, { name: 'teelab.ko', bytes: teelab }],
    busybox,
  }
}

function fetchKernel(name: KernelName, folder: string): void {
  const index = new PackageIndex(join(folder, 'apt'), KERNELS[name])
  const image = index
    .dependencies('linux-image-cloud-amd64')
    .find((dependency) => /^linux-image-\d.*-cloud-amd64$/.test(dependency))
  if (image === undefined) throw new Error(`Cannot find a kernel in ${name}`)
  // Newer ones come in parts; the rest of what they depend on is for machines that are to boot.
  const parts = index.dependencies(image).filter((part) => /^linux-(binary|modules)-/.test(part))
  const root = join(folder, 'root')
  index.unpack(
    root,
    [image.replace('image', 'headers'), 'make'],
    [image, ...parts, 'busybox-static'],
  )
  rmSync(join(folder, 'apt'), { recursive: true })
  // The shell and the small programs that a build calls, where there are no larger ones.
  inside(root, 'busybox', '--install', '-s', '/usr/bin')
}

function findFile(folder: string, pattern: RegExp): string {
  const files = readdirSync(folder, { recursive: true }).map(String)
  const found = files.find((path) => pattern.test(path.split('/').at(-1) as string))
  if (found === undefined) throw new Error(`Cannot find ${pattern} below ${folder}`)
  return found
}

function buildModule(root: string, release: string, folder: string): string {
  const sources = join(SOURCES, 'module')
  return once(join(folder, `module-${release}-${digestOf(sources)}`), (into) => {
    const workplace = join(root, 'module')
    rmSync(workplace, { recursive: true, force: true })
    cpSync(sources, workplace, { recursive: true })
    const headers = join('/usr/src', `linux-headers-${release}`)
    // Type information would need pahole.
    const options = ['M=/module', 'CONFIG_DEBUG_INFO_BTF_MODULES=', 'modules']
    inside(root, 'make', '-s', `-j${availableParallelism()}`, '-C', headers, ...options)
    cpSync(join(workplace, 'teelab.ko'), join(into, 'teelab.ko'))
  })
}

/** Runs a program of an unpacked root in it, in namespaces of its own, so that anybody may. */
function inside(root: string, ...words: readonly string[]): void {
  const enter = [
    'mount -t proc proc "$0/proc"',
    'mount --rbind /dev "$0/dev"',
    'exec chroot "$0" /bin/busybox env -i PATH=/usr/bin "$@"',
  ]
  const namespaces = ['--map-root-user', '--mount', '--pid', '--fork']
  command('mkdir', ['-p', join(root, 'proc'), join(root, 'dev')])
  command('unshare', [...namespaces, 'sh', '-c', enter.join(' && '), root, ...words])
}
