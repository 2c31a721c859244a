import { constants } from 'node:fs'
import { access, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../errors.ts'
import type { Capability, Device, Requirement } from '../plugin.ts'

/** What was tried to find one capability, and what came of it. */
export interface Probe {
  readonly capability: Capability
  /** `unknown`: it is there, but this process may not look or use it. */
  readonly state: 'present' | 'absent' | 'unknown'
  /** The path that decided. */
  readonly path: string
  /** `ENOENT`, `EACCES`, …; undefined on success. */
  readonly errno?: string
  /** What it means, in words. */
  readonly meaning: string
  /** What to do about it; undefined when nothing needs doing. */
  readonly remedy?: string
}

/** No probe may hold up the boot longer than this. */
const PROBE_TIMEOUT_MS = 2000

const TSM_REPORT = '/sys/kernel/config/tsm/report'
const TDX_NODES = ['/dev/tdx_guest', '/dev/tdx-guest'] as const
const NSM_NODE = '/dev/nsm'
const GPU_NODES = ['/dev/nvidiactl', '/dev/kfd', '/dev/dri/renderD128'] as const
/** PCI class 0x03: display controllers (PCI Code and ID Assignment, base class 03h). */
const PCI = '/sys/bus/pci/devices'

/**
 * Looks at the machine. Never throws and never waits longer than two seconds, whatever a driver
 * does; a path below `root` is used in place of `/`, so that a folder can stand for a machine.
 */
export async function probe(
  root: string,
  requirements: readonly (Requirement | undefined)[],
): Promise<Machine> {
  const wanted = new Set<Capability>(['tdx', 'tsm', 'nsm', 'gpu'])
  for (const requirement of requirements) if (requirement) collect(requirement, wanted)
  const probes = await Promise.all([...wanted].map((capability) => bounded(root, capability)))
  return new Machine(root, probes)
}

/** The result of probing: what plugins ask, and what `cvmd doctor` prints. */
export class Machine implements Device {
  readonly root: string
  readonly probes: readonly Probe[]

  constructor(root: string, probes: readonly Probe[]) {
    this.root = root
    this.probes = probes
  }

  has(requirement: Requirement): boolean {
    if (typeof requirement === 'string') {
      return this.probes.some((p) => p.capability === requirement && p.state === 'present')
    }
    if ('any' in requirement) return requirement.any.some((part) => this.has(part))
    return requirement.all.every((part) => this.has(part))
  }

  path(path: `/${string}`): string {
    return this.root === '/' ? path : join(this.root, path)
  }

  /** Why a requirement is not met, in one line. */
  explain(requirement: Requirement): string {
    const needed = new Set<Capability>()
    collect(requirement, needed)
    const missing = this.probes.filter((p) => needed.has(p.capability) && p.state !== 'present')
    return missing.map((p) => p.meaning).join('; ')
  }
}

function collect(requirement: Requirement, into: Set<Capability>): void {
  if (typeof requirement === 'string') into.add(requirement)
  else
    for (const part of 'any' in requirement ? requirement.any : requirement.all) collect(part, into)
}

async function bounded(root: string, capability: Capability): Promise<Probe> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<Probe>((resolve) => {
    timer = setTimeout(
      () =>
        resolve({
          capability,
          state: 'unknown',
          path: '',
          meaning: `the driver of ${capability} did not answer within ${PROBE_TIMEOUT_MS} ms`,
          remedy: 'look for a stuck driver in the kernel log',
        }),
      PROBE_TIMEOUT_MS,
    )
    timer.unref?.()
  })
  try {
    return await Promise.race([probeOne(root, capability), late])
  } finally {
    clearTimeout(timer)
  }
}

function probeOne(root: string, capability: Capability): Promise<Probe> {
  switch (capability) {
    case 'tdx':
      return firstNode(
        root,
        capability,
        TDX_NODES,
        'run on a TDX guest kernel with tdx_guest loaded',
      )
    case 'nsm':
      return firstNode(root, capability, [NSM_NODE], 'run inside a Nitro enclave with CONFIG_NSM')
    case 'gpu':
      return probeGpu(root)
    case 'tsm':
      return probeTsm(root)
    default:
      return firstNode(root, capability, [capability.slice(5)], 'make the device available')
  }
}

async function firstNode(
  root: string,
  capability: Capability,
  paths: readonly string[],
  absentRemedy: string,
): Promise<Probe> {
  let result: Probe | undefined
  for (const path of paths) {
    result = await node(root, capability, path, absentRemedy)
    if (result.state !== 'absent') return result
  }
  return result as Probe
}

async function node(
  root: string,
  capability: Capability,
  path: string,
  absentRemedy: string,
): Promise<Probe> {
  const real = join(root, path)
  try {
    await stat(real)
    await access(real, constants.R_OK | constants.W_OK)
    return { capability, state: 'present', path: real, meaning: `${path} can be opened` }
  } catch (error) {
    return explainErrno(capability, path, real, error, absentRemedy)
  }
}

async function probeTsm(root: string): Promise<Probe> {
  const real = join(root, TSM_REPORT)
  try {
    // Only a look at the folder: reading an entry would wait behind a pending quote.
    const info = await stat(real)
    if (!info.isDirectory()) {
      return {
        capability: 'tsm',
        state: 'absent',
        path: real,
        errno: 'ENOTDIR',
        meaning: `${TSM_REPORT} is not a folder`,
        remedy: 'mount configfs at /sys/kernel/config',
      }
    }
    await access(real, constants.W_OK)
    return { capability: 'tsm', state: 'present', path: real, meaning: `${TSM_REPORT} is usable` }
  } catch (error) {
    const remedy = 'mount configfs and load tdx_guest (Linux 6.7 or later, CONFIG_TSM_REPORTS)'
    return explainErrno('tsm', TSM_REPORT, real, error, remedy)
  }
}

async function probeGpu(root: string): Promise<Probe> {
  for (const path of GPU_NODES) {
    const found = await node(root, 'gpu', path, '')
    if (found.state === 'present') return found
  }
  const real = join(root, PCI)
  try {
    const { readFile } = await import('node:fs/promises')
    for (const slot of await readdir(real)) {
      const pciClass = await readFile(join(real, slot, 'class'), 'utf8').catch(() => '')
      if (pciClass.startsWith('0x03')) {
        const path = join(real, slot)
        return { capability: 'gpu', state: 'present', path, meaning: `PCI display device ${slot}` }
      }
    }
    return {
      capability: 'gpu',
      state: 'absent',
      path: real,
      meaning: 'no PCI device of class 0x03 and no GPU device node',
      remedy: 'pass a GPU through to this machine',
    }
  } catch (error) {
    return explainErrno('gpu', PCI, real, error, 'pass a GPU through to this machine')
  }
}

function explainErrno(
  capability: Capability,
  path: string,
  real: string,
  error: unknown,
  absentRemedy: string,
): Probe {
  const errno = errnoOf(error) ?? 'EUNKNOWN'
  const base = { capability, path: real, errno }
  if (errno === 'ENOENT' || errno === 'ENOTDIR' || errno === 'ENODEV' || errno === 'ENXIO') {
    return { ...base, state: 'absent', meaning: `${path} does not exist`, remedy: absentRemedy }
  }
  if (errno === 'EACCES' || errno === 'EPERM') {
    const remedy = `give the daemon's user read and write access to ${path}`
    return { ...base, state: 'unknown', meaning: `${path} may not be opened`, remedy }
  }
  if (error instanceof Error && /permission|NotCapable/i.test(`${error.name} ${error.message}`)) {
    const remedy = 'run "cvmd permissions --deno" and start with the flags it prints'
    return { ...base, state: 'unknown', meaning: `the runtime refuses ${path}`, remedy }
  }
  return { ...base, state: 'unknown', meaning: `${path}: ${errno}`, remedy: 'see the kernel log' }
}
