import { join } from 'node:path'

/**
 * What drivers know of each other's workloads: names that follow from ids. A machine finds its disks
 * and its network by them.
 */

/** The file of a zmount, raw; beside it {@link vdiskFolder}. */
export function vdiskPath(dataDir: string, id: string): string {
  return join(dataDir, 'vdisks', id)
}

/** Where containers find the files of a zmount: the disk mounted, or a folder in its place. */
export function vdiskFolder(dataDir: string, id: string): string {
  return join(dataDir, 'mounts', id)
}

/** The folder of a volume. */
export function volumePath(dataDir: string, id: string): string {
  return join(dataDir, 'volumes', id)
}

/**
 * Name of a network in the container engine.
 *
 * @param netId See `networkId` in `deployment/ids.ts`.
 */
export function engineNetwork(netId: string): string {
  return `n-${netId}`
}

/** Bridge of a network on the host. */
export function bridgeName(netId: string): string {
  return `b-${netId}`
}

/** Label with the workload id on every container and network of ours. */
export const WORKLOAD_LABEL = 'org.cvmd.zos.workload'

/** Label with the node id, so that two daemons on one engine leave each other alone. */
export const OWNER_LABEL = 'org.cvmd.zos.owner'
