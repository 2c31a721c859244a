import { posix } from 'node:path'
import { workloadId, type ZmachineLight } from '../../model.ts'
import { DriverError, type Task } from '../driver.ts'
import { vdiskFolder, volumePath } from '../names.ts'

/** A folder of the host in a container. */
export interface BindMount {
  readonly source: string
  readonly target: string
}

/** What an engine or a kernel puts there itself. */
const TAKEN = /^\/(?:proc|sys|dev)(?:\/|$)/

/**
 * The disks of a machine as folders (spec §4.5).
 *
 * @throws {DriverError} For a mount that is no disk, is not up, or is at an impossible place.
 */
export function bindMounts(
  mounts: ZmachineLight['mounts'],
  task: Pick<Task, 'deployment' | 'resultOf'>,
  dataDir: string,
): BindMount[] {
  const targets = new Set<string>()
  return mounts.map(({ name, mountpoint }) => {
    const { deployment, resultOf } = task
    const disk = deployment.workloads.find((one) => one.name === name)
    if (!disk) throw new DriverError('failed', `failed to get mount '${name}' workload`)
    if (disk.type !== 'zmount' && disk.type !== 'volume') {
      const reason = `expecting a reservation of type 'zmount' or 'volume' for disk '${name}'`
      throw new DriverError('failed', reason)
    }
    if (resultOf(name)?.state !== 'ok') {
      throw new DriverError('failed', `invalid disk '${name}' state`)
    }
    const target = mountpointOf(mountpoint)
    if (targets.has(target)) {
      throw new DriverError('failed', `cannot mount '${name}': '${target}' is mounted twice`)
    }
    targets.add(target)
    const id = workloadId(deployment.twinId, deployment.contractId, name)
    const source = disk.type === 'zmount' ? vdiskFolder(dataDir, id) : volumePath(dataDir, id)
    return { source, target }
  })
}

function mountpointOf(text: string): string {
  const path = posix.normalize(text).replace(/\/+$/, '')
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is meant
  const odd = /[\u0000-\u001f\u007f]/.test(text) || text.split('/').includes('..')
  if (!text.startsWith('/') || path === '' || odd || TAKEN.test(path) || path.length > 4095) {
    const rule = 'it must be an absolute path other than /, /proc, /sys and /dev'
    throw new DriverError('failed', `invalid mountpoint '${text.slice(0, 200)}': ${rule}`)
  }
  return path
}
