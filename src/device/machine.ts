import { join } from 'node:path'
import type { Capability, Device, Requirement } from '../plugin.ts'
import type { NoNative } from './choose-transport.ts'
import { FileTransport } from './file-transport.ts'
import type { Finding } from './probe/finding.ts'
import type { TdxFacts } from './tdx.ts'
import type { Transport } from './transport.ts'
import { TDX_PROVIDER } from './tsm.ts'

/** What came of looking for one capability. */
export interface Probe extends Finding {
  readonly capability: Capability
}

/** What of TDX was found, part by part. */
export interface TdxFindings {
  /** Report entries, and who provides them. */
  readonly reports: Finding
  /** /dev/tdx_guest. */
  readonly tdReports: Finding
  /** The measurement files. */
  readonly registers: Finding
}

/** What a {@link Machine} knows beside its probes. */
export interface MachineParts {
  /** Default: file calls below the root. */
  readonly transport?: Transport
  readonly noNative?: NoNative | undefined
  /** Undefined where nothing was looked for. */
  readonly tdx?: TdxFindings
}

/** The result of probing: what plugins ask, and what `cvmd doctor` prints. */
export class Machine implements Device {
  readonly root: string
  readonly probes: readonly Probe[]
  /** The way to the devices that was probed, and is to be used. */
  readonly transport: Transport
  /** Why that way is not the native addon; undefined when it is, or when it is simulated. */
  readonly noNative: NoNative | undefined
  readonly tdxFindings: TdxFindings | undefined

  constructor(root: string, probes: readonly Probe[], parts: MachineParts = {}) {
    this.root = root
    this.probes = probes
    this.transport = parts.transport ?? new FileTransport(root)
    this.noNative = parts.noNative
    this.tdxFindings = parts.tdx
  }

  /** What a `Tdx` on this machine can do; undefined where there is no TDX. */
  get tdx(): TdxFacts | undefined {
    const found = this.tdxFindings
    if (!found || !this.has('tdx')) return undefined
    const { reports, tdReports, registers } = found
    return {
      canQuote: reports.state === 'present' && reports.provider === TDX_PROVIDER,
      canReport: tdReports.state === 'present',
      canExtend: registers.state === 'present',
    }
  }

  has(requirement: Requirement): boolean {
    if (typeof requirement === 'string') return this.#probe(requirement)?.state === 'present'
    if ('any' in requirement) return requirement.any.some((part) => this.has(part))
    return requirement.all.every((part) => this.has(part))
  }

  path(path: `/${string}`): string {
    return this.root === '/' ? path : join(this.root, path)
  }

  /** Why a requirement is not met, in one line. */
  explain(requirement: Requirement): string {
    const missing = [...capabilitiesOf(requirement)].flatMap((capability) => {
      const probe = this.#probe(capability)
      return probe && probe.state !== 'present' ? [probe.meaning] : []
    })
    return missing.join('; ')
  }

  #probe(capability: Capability): Probe | undefined {
    return this.probes.find((probe) => probe.capability === capability)
  }
}

/** Every capability a requirement names, once. */
export function capabilitiesOf(requirement: Requirement): Set<Capability> {
  if (typeof requirement === 'string') return new Set([requirement])
  const parts = 'any' in requirement ? requirement.any : requirement.all
  return new Set(parts.flatMap((part) => [...capabilitiesOf(part)]))
}
