import type { Deployment, Workload, WorkloadType } from '../model.ts'
import { ZosError } from '../zos-error.ts'
import { type CheckOptions, checkDeployment } from './check.ts'
import { must } from './types/kind.ts'
import { kindOf } from './types/kinds.ts'

export interface UpgradeOperation {
  readonly op: 'add' | 'update' | 'remove'
  /** As the new deployment has it; of `remove` as the old one had it. */
  readonly workload: Workload
  /** What an `update` replaces. */
  readonly previous?: Workload
}

export interface UpgradeOptions extends CheckOptions {
  /** Types that can be updated besides those of the reference, by what their driver can do. */
  readonly canUpdate?: (type: WorkloadType) => boolean
}

/**
 * What has to be done to get from one deployment to the next: additions and updates in the order of
 * the new one, then removals in the order of the old one (spec zos §7.4). The work has an order of its
 * own, by type.
 *
 * @param current As accepted; its workloads without those that were removed.
 * @throws {ZosError} `invalid`: `<rule>: upgrade validation error`.
 */
export function planUpgrade(
  current: Deployment,
  next: Deployment,
  options: UpgradeOptions = {},
): readonly UpgradeOperation[] {
  try {
    const operations = compare(current, next, options)
    for (const { op, workload } of operations) {
      if (op !== 'update') continue
      const { type } = workload
      const able = kindOf(type).updatable || options.canUpdate?.(type) === true
      must(able, `workload '${type}' does not support upgrade`)
    }
    return operations
  } catch (cause) {
    throw suffixed(cause, (text) => `${text}: upgrade validation error`)
  }
}

function compare(
  current: Deployment,
  next: Deployment,
  options: CheckOptions,
): readonly UpgradeOperation[] {
  try {
    checkDeployment(next, options)
  } catch (cause) {
    throw suffixed(cause, (text) => `new deployment is invalid: ${text}`)
  }
  must(
    current.twinId === next.twinId && current.contractId === next.contractId,
    'cannot change deployment or twin id',
  )
  const expected = current.version + 1
  must(next.version === expected, `expecting deployment version ${expected}, got ${next.version}`)
  const before = new Map(current.workloads.map((workload) => [workload.name, workload]))
  const changes = next.workloads.flatMap((workload) =>
    change(before.get(workload.name), workload, expected),
  )
  const names = new Set(next.workloads.map(({ name }) => name))
  const gone = current.workloads.filter(({ name }) => !names.has(name))
  return [...changes, ...gone.map((workload) => ({ op: 'remove', workload }) as const)]
}

/** None when a workload stays, which its version says and not its data. */
function change(
  previous: Workload | undefined,
  workload: Workload,
  version: number,
): UpgradeOperation[] {
  const { name } = workload
  if (previous === undefined) {
    must(
      workload.version === version,
      `invalid version number for workload '${name}' expected '${version}'`,
    )
    return [{ op: 'add', workload }]
  }
  must(previous.type === workload.type, `cannot change workload type '${name}'`)
  return workload.version === version ? [{ op: 'update', workload, previous }] : []
}

function suffixed(cause: unknown, message: (text: string) => string): unknown {
  if (!(cause instanceof ZosError)) return cause
  return new ZosError(cause.kind, message(cause.message), { cause })
}
