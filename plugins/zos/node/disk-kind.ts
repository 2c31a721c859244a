import type { HostFiles } from './host-files.ts'
import type { Notes } from './notes.ts'

/** What a file system is on, as stat(2) gives it. */
export interface DeviceNumber {
  readonly major: number
  readonly minor: number
}

const MAX_MOUNTS_BYTES = 4 * 1024 * 1024

/** Drivers whose disks say they rotate because nobody told the kernel: the guest cannot know. */
const TELLS_NOTHING = ['virtio_blk']

/**
 * Whether a folder is on a disk that rotates (`queue/rotational`, ABI/stable/sysfs-block), found by
 * its device number, else, for file systems without one (btrfs), by what is mounted there. A virtio
 * disk counts as solid, since its flag is a mere default; so does what nobody can tell, which the
 * log says.
 *
 * @param path The folder, absolute and as the kernel sees it.
 */
export async function diskKind(
  { files, notes }: { readonly files: HostFiles; readonly notes: Notes },
  path: string,
  device: DeviceNumber,
): Promise<'ssd' | 'hdd'> {
  const disk = (await byNumber(files, device)) ?? (await byMount(files, path))
  const flag = disk && (await files.word(`${disk}/queue/rotational`))
  if (flag === undefined) {
    notes.once(`disk ${path}`, `"${path}" counts as SSD: the kernel does not show its disk`)
    return 'ssd'
  }
  if (flag !== '1') return 'ssd'
  const driver = (await files.target(`${disk}/device/driver`))?.split('/').at(-1)
  return driver !== undefined && TELLS_NOTHING.includes(driver) ? 'ssd' : 'hdd'
}

async function byNumber(files: HostFiles, { major, minor }: DeviceNumber) {
  // Major 0: the file system is on no device, or on several.
  if (major === 0) return undefined
  return wholeDisk(files, await files.target(`/sys/dev/block/${major}:${minor}`))
}

/** The folder of the disk a partition is of. */
async function wholeDisk(files: HostFiles, folder: string | undefined) {
  if (folder === undefined) return undefined
  const isPart = await files.exists(`${folder}/partition`)
  return isPart ? folder.slice(0, folder.lastIndexOf('/')) : folder
}

async function byMount(files: HostFiles, path: string): Promise<string | undefined> {
  const source = await mountSource(files, path)
  if (!source?.startsWith('/dev/')) return undefined
  // `/dev/mapper/x` is a link to `/dev/dm-0`.
  const node = source.startsWith('/dev/mapper/') ? await files.target(source) : source
  const name = node?.split('/').at(-1)
  return name ? wholeDisk(files, await files.target(`/sys/class/block/${name}`)) : undefined
}

/** Source of the innermost mount that holds the path (proc_pid_mountinfo(5)). */
async function mountSource(files: HostFiles, path: string): Promise<string | undefined> {
  let best: { readonly point: string; readonly source: string } | undefined
  await files.eachLine('/proc/self/mountinfo', MAX_MOUNTS_BYTES, (line) => {
    const fields = line.split(' ')
    const point = plain(fields[4] ?? '')
    const source = fields[fields.indexOf('-') + 2]
    const holds = point !== '' && (`${path}/`.startsWith(`${point}/`) || point === '/')
    // A later mount on the same place covers the earlier one.
    if (holds && source && point.length >= (best?.point.length ?? 0)) {
      best = { point, source: plain(source) }
    }
    return undefined
  })
  return best?.source
}

/** Spaces and the like are written as octal numbers: `/mnt/a\040b`. */
function plain(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  )
}
