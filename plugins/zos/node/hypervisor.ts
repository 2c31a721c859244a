import type { HostFiles } from './host-files.ts'
import type { Notes } from './notes.ts'
import type { Programs } from './programs.ts'

const MAX_CPUINFO_BYTES = 64 * 1024

/** Starts of `sys_vendor`, and what virt-what(1) calls that hypervisor. */
const VENDORS = [
  ['QEMU', 'kvm'],
  ['Red Hat', 'kvm'],
  ['Amazon EC2', 'aws'],
  ['Google', 'google_cloud'],
  ['Microsoft', 'hyperv'],
  ['VMware', 'vmware'],
  ['innotek', 'virtualbox'],
  ['Xen', 'xen'],
  ['Parallels', 'parallels'],
  ['Alibaba Cloud', 'alibaba_cloud'],
  ['OpenStack', 'openstack'],
  ['BHYVE', 'bhyve'],
  ['Nutanix', 'nutanix_ahv'],
] as const

/** What is answered of a virtual machine of nobody known; virt-what has no word for it. */
const UNKNOWN = 'unknown'

/**
 * The hypervisor below: the first word of virt-what(1), which is empty on bare metal (spec §9.5).
 * Where it is missing or not allowed, the `hypervisor` flag of the CPU decides, and the vendor names
 * it. Never throws.
 */
export async function readHypervisor(from: {
  readonly programs: Programs
  readonly files: HostFiles
  readonly notes: Notes
}): Promise<string> {
  const { stdout, problem } = await from.programs.run(['virt-what'])
  if (problem === undefined) return /\S+/.exec(stdout ?? '')?.[0] ?? ''
  from.notes.once('hypervisor', `The hypervisor is told by CPU flag and vendor: ${problem}`)
  return guess(from.files)
}

async function guess(files: HostFiles): Promise<string> {
  const kind = await files.word('/sys/hypervisor/type')
  if (kind) return kind
  if (!(await hasFlag(files))) return ''
  const vendor = (await files.word('/sys/class/dmi/id/sys_vendor')) ?? ''
  return VENDORS.find(([start]) => vendor.startsWith(start))?.[1] ?? UNKNOWN
}

/** CPUID leaf 1, ECX bit 31; the first processor speaks for all. */
async function hasFlag(files: HostFiles): Promise<boolean> {
  let found = false
  await files.eachLine('/proc/cpuinfo', MAX_CPUINFO_BYTES, (line) => {
    if (!line.startsWith('flags')) return undefined
    found = line.split(/\s+/).includes('hypervisor')
    return false
  })
  return found
}
