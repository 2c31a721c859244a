import type { HostFiles } from './host-files.ts'

/** Where the kernel shows interfaces (ABI/testing/sysfs-class-net). */
const FOLDER = '/sys/class/net'

/** ARPHRD_ETHER, include/uapi/linux/if_arp.h. */
const ETHERNET = '1'

const MAX_NICS = 4096

/** An interface of the machine. */
export interface Nic {
  readonly name: string
  /** Whether hardware is behind it, real or given by a hypervisor. */
  readonly physical: boolean
  /** Whether it belongs to a bridge or bond. */
  readonly enslaved: boolean
  /** Lower-case; '' when it has none. */
  readonly mac: string
}

/**
 * Every interface but `lo`, sorted by name. Undefined where the kernel's files cannot be read.
 *
 * @param without What is missing then, for the log.
 */
export async function readNics(
  files: HostFiles,
  without: string,
): Promise<readonly Nic[] | undefined> {
  const names = await files.list(FOLDER, without)
  const all = names?.slice(0, MAX_NICS).map((name) => readNic(files, name))
  return all && (await Promise.all(all)).filter((nic) => nic !== undefined)
}

async function readNic(files: HostFiles, name: string): Promise<Nic | undefined> {
  const path = `${FOLDER}/${name}`
  const type = await files.word(`${path}/type`)
  // `bonding_masters` is a plain file; others may have gone away.
  if (name === 'lo' || type === undefined) return undefined
  const [device, master, mac = ''] = await Promise.all([
    files.exists(`${path}/device`),
    files.exists(`${path}/master`),
    files.word(`${path}/address`),
  ])
  const physical = device && type === ETHERNET
  return { name, physical, enslaved: master, mac: mac.toLowerCase() }
}

/** Names that programs give to interfaces they make. */
const MADE =
  /^(lo|docker|br-|virbr|veth|cni|flannel|cali|tun|tap|wg|dummy|ifb|podman|cvmd|mycelium|ygg)/

/** Whether an interface is rather not one of the hardware, for where the kernel may not be asked. */
export function looksVirtual(name: string): boolean {
  return MADE.test(name)
}
