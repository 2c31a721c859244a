import type { SystemInfo } from '../../src/device/system-info.ts'

type Sample = readonly [labels: Readonly<Record<string, string>>, value: number]

/** Figures of the machine in the Prometheus text format, by dstack's names (spec dstack §5.3). */
export function systemMetrics(info: SystemInfo): string {
  const one = (value: number): readonly Sample[] => [[{}, value]]
  const named = (label: string): readonly Sample[] => [[{ value: label }, 1]]
  const { memory, swap, disks } = info
  const disk = (read: (disk: SystemInfo['disks'][number]) => number) =>
    disks.map((d): Sample => [{ name: d.name, mount_point: d.mountPoint }, read(d)])
  const families: readonly (readonly [string, readonly Sample[]])[] = [
    ['system_os_name', named(info.osName)],
    ['system_os_version', named(info.osVersion)],
    ['system_kernel_version', named(info.kernelVersion)],
    ['system_cpu_model', named(info.cpuModel)],
    ['system_num_cpus', one(info.cpuCount)],
    ['system_memory_total', one(memory.total)],
    ['system_memory_available', one(memory.available)],
    ['system_memory_used', one(memory.total - memory.available)],
    ['system_memory_free', one(memory.free)],
    ['system_swap_total', one(swap.total)],
    ['system_swap_used', one(swap.total - swap.free)],
    ['system_swap_free', one(swap.free)],
    ['system_uptime', one(info.uptime)],
    ...(['1m', '5m', '15m'] as const).map(
      (span, at) =>
        [`system_load_average_${span}`, one(Math.round((info.load[at] ?? 0) * 100))] as const,
    ),
    ['disk_total_size', disk((d) => d.total)],
    ['disk_free_size', disk((d) => d.free)],
    ['disk_used_size', disk((d) => d.total - d.free)],
    ['disk_usage_percentage', disk((d) => percentage(d.total - d.free, d.total))],
  ]
  return families
    .flatMap(([name, samples]) => [
      `# TYPE ${name} gauge`,
      ...samples.map(([labels, value]) => `${name}${labelText(labels)} ${value}`),
    ])
    .map((line) => `${line}\n`)
    .join('')
}

function percentage(part: number, whole: number): number {
  return whole === 0 ? 0 : Math.round((part / whole) * 10_000) / 100
}

function labelText(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`)
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}

function escaped(value: string): string {
  return value.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n')
}
