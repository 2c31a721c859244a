import { randomBytes } from 'node:crypto'
import { access, constants, stat } from 'node:fs/promises'
import { errnoOf } from '../../../../src/errors.ts'
import type { DriverProbe } from '../driver.ts'
import type { HostCommands } from '../host-commands.ts'
import { MAX_RUN_FOLDER } from './machine-files.ts'
import { oldProblem } from './versions.ts'
import { NO_PAYLOAD, type VmPayload } from './vm-config.ts'

export interface ProbeOptions {
  readonly commands: HostCommands
  readonly signal: AbortSignal
  readonly hypervisor: readonly string[]
  readonly virtiofsd: readonly string[]
  /** Usually `/dev/kvm`. */
  readonly kvmPath: string
  readonly payload: VmPayload | undefined
  readonly runFolder: string
}

/** Whether this process may run virtual machines here. */
export async function probeHypervisor(options: ProbeOptions): Promise<DriverProbe> {
  const { commands, signal, hypervisor, virtiofsd, kvmPath, payload, runFolder } = options
  const host = commands.until(signal)
  const version = await host.run(...hypervisor, '--version')
  if (!version.ok) return no(`${version.problem}${remedyOf(version.errno)}`)
  const [, told = version.stdout.trim()] = /cloud-hypervisor v?(\S+)/.exec(version.stdout) ?? []
  const old = oldProblem(told.slice(0, 60))
  if (old !== undefined) return no(old)
  const kvm = await problemOf(kvmPath, constants.R_OK | constants.W_OK)
  if (kvm !== undefined) return no(`virtual machines need ${kvmPath}: ${kvm}`)
  if (payload === undefined) return no(NO_PAYLOAD)
  for (const [kind, path] of Object.entries(payload)) {
    if (kind === 'cmdline') continue
    const missing = await problemOf(path, constants.R_OK)
    if (missing !== undefined) return no(`the ${kind} "${path}" cannot be read: ${missing}`)
  }
  if (Buffer.byteLength(runFolder) > MAX_RUN_FOLDER) {
    return no(`the folder for sockets is longer than ${MAX_RUN_FOLDER} bytes: "${runFolder}"`)
  }
  const tap = await tapProblem(host, commands)
  if (tap !== undefined) return no(tap)
  const shares = await host.run(...virtiofsd, '--version')
  if (shares.ok) return { able: true }
  return { able: true, warning: `machines with volumes will fail: ${shares.problem}` }
}

function no(reason: string): DriverProbe {
  return { able: false, reason }
}

function remedyOf(errno: string | undefined): string {
  return errno === 'ENOENT' ? '; install cloud-hypervisor' : ''
}

async function problemOf(path: string, mode: number): Promise<string | undefined> {
  try {
    await stat(path)
    await access(path, mode)
    return undefined
  } catch (error) {
    const errno = errnoOf(error)
    if (errno === 'ENOENT') return 'it is not there'
    if (errno === 'EACCES' || errno === 'EPERM') return 'this process may not use it'
    return errno ?? 'it cannot be looked at'
  }
}

/** Whether network cards can be made. */
async function tapProblem(host: HostCommands, commands: HostCommands): Promise<string | undefined> {
  // Both types of machines look at the same time.
  const name = `cvmd-${randomBytes(4).toString('hex')}t`
  try {
    const made = await host.run('ip', 'tuntap', 'add', 'dev', name, 'mode', 'tap')
    if (made.ok) return undefined
    return `network cards cannot be made, which needs CAP_NET_ADMIN: ${made.problem}`
  } finally {
    // Also when it was called off.
    await commands.run('ip', 'link', 'del', 'dev', name)
  }
}
