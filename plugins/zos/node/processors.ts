import { availableParallelism } from 'node:os'
import type { HostFiles } from './host-files.ts'

/**
 * Number of logical CPUs this process may use: those that are online and in its affinity mask
 * (proc_pid_status(5), ABI/stable/sysfs-devices-system-cpu). At least 1.
 */
export async function countProcessors(files: HostFiles): Promise<number> {
  const [status = '', online] = await Promise.all([
    files.text('/proc/self/status'),
    files.word('/sys/devices/system/cpu/online'),
  ])
  const allowed = /^Cpus_allowed_list:\s*(\S+)$/m.exec(status)?.[1]
  const lists = [allowed, online].flatMap((list) => (list ? [parseCpuList(list)] : []))
  const [first, second = first] = lists
  if (first && second) {
    const count = [...first].filter((cpu) => second.has(cpu)).length
    if (count > 0) return count
  }
  return parallelism()
}

const MAX_CPU = 65_536

/** Numbers of a list as the kernel writes it: `0-3,8,10-11`; what is none of it is left out. */
export function parseCpuList(text: string): ReadonlySet<number> {
  const numbers = new Set<number>()
  for (const part of text.split(',').slice(0, MAX_CPU)) {
    const [, low, high = low] = /^([0-9]{1,5})(?:-([0-9]{1,5}))?$/.exec(part.trim()) ?? []
    if (low === undefined) continue
    const last = Math.min(Number(high), MAX_CPU - 1)
    for (let cpu = Number(low); cpu <= last && numbers.size < MAX_CPU; cpu++) numbers.add(cpu)
  }
  return numbers
}

function parallelism(): number {
  try {
    return Math.max(1, availableParallelism())
  } catch {
    return 1
  }
}
