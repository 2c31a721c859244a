import type { Notes } from './notes.ts'
import type { Programs } from './programs.ts'

/** Ports of the node's own services, which must not be chosen (spec §9.1). */
const FIXED = [80, 443, 8082, 9651, 9943, 9944, 9945, 300]

/**
 * Ports that a new network must not choose: those of the node, of the workloads that run, and of
 * other WireGuard interfaces as far as wg(8) may tell. Ascending, each once. Never throws.
 */
export async function wireguardPorts(
  { programs, notes }: { readonly programs: Programs; readonly notes: Notes },
  ofWorkloads: Iterable<number>,
): Promise<number[]> {
  const { stdout = '', missing, problem } = await programs.run(['wg', 'show', 'all', 'listen-port'])
  // Without the tool there is hardly an interface of that kind.
  if (problem !== undefined && !missing) {
    notes.once('wg', `WireGuard ports of other interfaces are not known: ${problem}`)
  }
  // Lines of `interface<TAB>port`; the port is 0 while an interface is down.
  const used = stdout.split('\n').map((line) => Number(line.split('\t')[1]))
  const all = [...FIXED, ...ofWorkloads, ...used]
  const ports = all.filter((port) => Number.isInteger(port) && port > 0 && port < 65_536)
  return [...new Set(ports)].sort((a, b) => a - b)
}
