import { readFile, statfs } from 'node:fs/promises'
import { cpus, loadavg, release, totalmem, uptime } from 'node:os'

/** Figures of the machine, sizes in bytes; what the runtime may not look at is left out. */
export interface SystemInfo {
  readonly osName: string
  readonly osVersion: string
  readonly kernelVersion: string
  readonly cpuModel: string
  readonly cpuCount: number
  readonly memory: MemoryInfo
  readonly swap: { readonly total: number; readonly free: number }
  /** Seconds since the machine started. */
  readonly uptime: number
  /** Over 1, 5 and 15 minutes. */
  readonly load: readonly [number, number, number]
  readonly disks: readonly DiskInfo[]
}

export interface MemoryInfo {
  readonly total: number
  readonly available: number
  readonly free: number
}

export interface DiskInfo {
  /** The device or dataset that is mounted. */
  readonly name: string
  readonly mountPoint: string
  readonly total: number
  readonly free: number
}

const MAX_DISKS = 64

/** Looks at the machine; never throws. */
export async function systemInfo(): Promise<SystemInfo> {
  const [release_, meminfo, disks] = await Promise.all([osRelease(), readMeminfo(), readDisks()])
  const [one = 0, five = 0, fifteen = 0] = or(loadavg, [])
  const processors = or(cpus, [])
  return {
    osName: release_.get('NAME') ?? '',
    osVersion: release_.get('VERSION_ID') ?? '',
    kernelVersion: or(release, ''),
    cpuModel: processors[0]?.model.trim() ?? '',
    cpuCount: processors.length,
    memory: {
      total: meminfo.get('MemTotal') ?? or(totalmem, 0),
      available: meminfo.get('MemAvailable') ?? 0,
      free: meminfo.get('MemFree') ?? 0,
    },
    swap: { total: meminfo.get('SwapTotal') ?? 0, free: meminfo.get('SwapFree') ?? 0 },
    uptime: Math.floor(or(uptime, 0)),
    load: [one, five, fifteen],
    disks,
  }
}

/** Deno throws where it may not tell. */
function or<T>(look: () => T, otherwise: T): T {
  try {
    return look()
  } catch {
    return otherwise
  }
}

function text(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => '')
}

async function osRelease(): Promise<ReadonlyMap<string, string>> {
  return parseOsRelease(await text('/etc/os-release'))
}

/** The assignments of os-release(5): `NAME="Debian GNU/Linux"`, quoted as for a shell or not. */
export function parseOsRelease(content: string): ReadonlyMap<string, string> {
  const values = new Map<string, string>()
  for (const line of content.split('\n')) {
    const [, key = '', value = ''] = /^([A-Z][A-Z0-9_]*)=(.*)$/.exec(line.trim()) ?? []
    if (key !== '') values.set(key, unquoted(value))
  }
  return values
}

function unquoted(value: string): string {
  const [, quote, inner = ''] = /^(["'])(.*)\1$/.exec(value) ?? []
  if (quote === undefined) return value
  return quote === "'" ? inner : inner.replace(/\\(["'$`\\])/g, '$1')
}

/** proc_meminfo(5): `MemTotal:  16384 kB`; here in bytes. */
async function readMeminfo(): Promise<ReadonlyMap<string, number>> {
  const lines = (await text('/proc/meminfo')).split('\n')
  return new Map(
    lines.flatMap((line) => {
      const [, key, kib] = /^(\w+):\s+(\d+) kB$/.exec(line) ?? []
      return key && kib ? [[key, Number(kib) * 1024] as const] : []
    }),
  )
}

async function readDisks(): Promise<DiskInfo[]> {
  const disks = [...parseMounts(await text('/proc/self/mounts'))].map(
    async ([name, mountPoint]) => {
      const found = await statfs(mountPoint).catch(() => undefined)
      if (!found) return []
      const { bsize, blocks, bfree } = found
      return [{ name, mountPoint, total: bsize * blocks, free: bsize * bfree }]
    },
  )
  return (await Promise.all(disks)).flat()
}

/**
 * Mounted block devices of proc_pid_mounts(5), each with its first mount point. Spaces and the like
 * are written there as octal numbers: `/mnt/a\040b`.
 */
export function parseMounts(content: string): ReadonlyMap<string, string> {
  const plain = (field: string) =>
    field.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)))
  const disks = new Map<string, string>()
  for (const line of content.split('\n')) {
    const [name = '', mountPoint = ''] = line.split(' ').map(plain)
    if (!name.startsWith('/dev/') || mountPoint === '' || disks.has(name)) continue
    if (disks.size === MAX_DISKS) break
    disks.set(name, mountPoint)
  }
  return disks
}
