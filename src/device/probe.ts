import type { Capability, Requirement } from '../plugin.ts'
import { chooseTransport } from './choose-transport.ts'
import { capabilitiesOf, Machine, type Probe, type TdxFindings } from './machine.ts'
import { NSM, PCI_DEVICES, TDX_GUEST, TDX_MEASUREMENTS, TSM_REPORT } from './paths.ts'
import type { Finding } from './probe/finding.ts'
import { probeGpu } from './probe/gpu.ts'
import type { Look } from './probe/look.ts'
import { pathProbe } from './probe/node.ts'
import { probeNsm } from './probe/nsm.ts'
import { probeRegisters, probeReports, probeTdReport, tdxOf } from './probe/tdx.ts'
import type { Transport } from './transport.ts'

export { Machine, type Probe } from './machine.ts'

/** How a machine is probed. */
export interface ProbeOptions {
  /** The simulated machine; default: the native addon, or file calls. */
  readonly transport?: Transport | undefined
  /**
   * What was found before, on reload. A probe that gets no answer in time keeps it: while a quote
   * is in the making, the kernel lets nobody look.
   */
  readonly previous?: Machine | undefined
  /** For tests. Default 2 s. */
  readonly timeoutMs?: number
}

/** No probe may hold up the boot longer than this. */
const TIMEOUT_MS = 2000

/** Looked for on every machine, whatever its plugins require. */
const ALWAYS: readonly Capability[] = ['tdx', 'tsm', 'nsm', 'gpu']

/**
 * Looks at the machine by using what it finds, not by its presence. Never throws and never waits
 * longer than two seconds, whatever a driver does.
 *
 * @param root `/`, or a folder that stands for a machine: files in it are taken for the devices
 *   they name, and a report entry with a `provider` file for a provider.
 */
export async function probe(
  root: string,
  requirements: readonly (Requirement | undefined)[],
  options: ProbeOptions = {},
): Promise<Machine> {
  const { previous, timeoutMs = TIMEOUT_MS } = options
  const real = chooseTransport(root)
  const transport = options.transport ?? real.transport
  const noNative = options.transport ? undefined : real.noNative
  const look: Look = { root, transport, noNative, stands: root !== '/' && !options.transport }
  const bounded = (path: string, work: Promise<Finding>, before: Finding | undefined) =>
    inTime(path, timeoutMs, work, before)
  const before = previous?.tdxFindings
  const [reports, tdReports, registers] = [
    bounded(TSM_REPORT, probeReports(look), before?.reports),
    bounded(TDX_GUEST, probeTdReport(look), before?.tdReports),
    bounded(TDX_MEASUREMENTS, probeRegisters(look), before?.registers),
  ]
  const findingOf = async (capability: Capability): Promise<Finding> => {
    if (capability === 'tsm') return await reports
    if (capability === 'tdx') return tdxOf(await reports, await tdReports)
    const known = previous?.probes.find((probe) => probe.capability === capability)
    if (capability === 'nsm') return await bounded(NSM, probeNsm(look), known)
    // Only attestation devices are simulated.
    if (capability === 'gpu') return await bounded(PCI_DEVICES, probeGpu(real.transport), known)
    const path = capability.slice('path:'.length)
    return await bounded(path, pathProbe(root, path, 'make the device available'), known)
  }
  const wanted = new Set(ALWAYS)
  for (const requirement of requirements) {
    if (requirement) for (const capability of capabilitiesOf(requirement)) wanted.add(capability)
  }
  const probes = await Promise.all(
    [...wanted].map(
      async (capability): Promise<Probe> => ({ capability, ...(await findingOf(capability)) }),
    ),
  )
  const tdx: TdxFindings = {
    reports: await reports,
    tdReports: await tdReports,
    registers: await registers,
  }
  return new Machine(root, probes, { transport, noNative, tdx })
}

/** A probe that answers too late goes on alone, and clears up after itself. */
async function inTime(
  path: string,
  timeoutMs: number,
  work: Promise<Finding>,
  before: Finding | undefined,
): Promise<Finding> {
  const meaning = `${path} did not answer within ${timeoutMs} ms`
  const remedy = 'look for a stuck driver in the kernel log'
  const late: Finding = { state: 'unknown', path, errno: 'ETIMEDOUT', meaning, remedy }
  let timer: ReturnType<typeof setTimeout> | undefined
  const passed = new Promise<Finding>((resolve) => {
    timer = setTimeout(() => resolve(before?.state === 'present' ? before : late), timeoutMs)
  })
  try {
    return await Promise.race([work, passed])
  } finally {
    clearTimeout(timer)
  }
}
