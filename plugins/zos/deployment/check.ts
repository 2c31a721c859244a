import type { Deployment, Workload, WorkloadOf, WorkloadType } from '../model.ts'
import { readData } from './data.ts'
import type { Envelope, WorkloadEnvelope } from './envelope.ts'
import { checkName } from './names.ts'
import { must, type Neighbours } from './types/kind.ts'
import { kindOf } from './types/kinds.ts'

export interface CheckOptions {
  /**
   * Accept what the reference accepts by mistake: a public IP that is another kind of workload
   * (spec zos §15.5). Default: no.
   */
  readonly referenceSlips?: boolean
}

/**
 * Reads the data of all workloads and checks the structure, one workload after the other, in the
 * order of the reference (spec zos §4.4).
 *
 * @throws {ZosError} `invalid`, in the words of the reference.
 */
export function checkEnvelope(envelope: Envelope, options: CheckOptions = {}): Deployment {
  const read = new Map<WorkloadEnvelope, Workload>()
  const dataOf = (workload: WorkloadEnvelope) => {
    const known = read.get(workload) ?? readData(workload)
    read.set(workload, known)
    return known
  }
  return { ...envelope, workloads: check(envelope, dataOf, options) }
}

/**
 * Checks the structure of a deployment that was read before.
 *
 * @throws {ZosError} As {@link checkEnvelope}.
 */
export function checkDeployment(deployment: Deployment, options: CheckOptions = {}): void {
  check(deployment, (workload) => workload, options)
}

type Named = Pick<WorkloadEnvelope, 'name' | 'type' | 'version'>

function check<Item extends Named>(
  { version, workloads }: { readonly version: number; readonly workloads: readonly Item[] },
  dataOf: (workload: Item) => Workload,
  { referenceSlips = false }: CheckOptions,
): Workload[] {
  const neighbours = neighboursIn(workloads, dataOf, referenceSlips)
  const names = new Set<string>()
  return workloads.map((workload) => {
    const { name } = workload
    must(
      workload.version <= version,
      `workload '${name}' version '${workload.version}' cannot be higher than deployment version '${version}'`,
    )
    const wrong = checkName(name)
    must(wrong === undefined, `name '${name}' is invalid: ${wrong}`)
    must(!names.has(name), `multiple workloads with the same name '${name}'`)
    names.add(name)
    const known = dataOf(workload)
    checkData(known, neighbours)
    return known
  })
}

function checkData<T extends WorkloadType>(workload: WorkloadOf<T>, neighbours: Neighbours): void {
  kindOf(workload.type).check(workload.data, neighbours)
}

function neighboursIn<Item extends Named>(
  workloads: readonly Item[],
  dataOf: (workload: Item) => Workload,
  referenceSlips: boolean,
): Neighbours {
  let users: Map<string, number> | undefined
  const countUsers = () => {
    const counted = new Map<string, number>()
    for (const workload of workloads) {
      if (workload.type !== 'zmachine') continue
      const { publicIp } = (dataOf(workload) as WorkloadOf<'zmachine'>).data.network
      counted.set(publicIp, (counted.get(publicIp) ?? 0) + 1)
    }
    return counted
  }
  const types = new Map<string, string>()
  for (const { name, type } of workloads) if (!types.has(name)) types.set(name, type)
  return {
    referenceSlips,
    typeOf: (name) => (checkName(name) === undefined ? types.get(name) : undefined),
    publicIpUsers(name) {
      users ??= countUsers()
      return users.get(name) ?? 0
    },
  }
}
