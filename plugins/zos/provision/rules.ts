import type { Deployment, Workload } from '../model.ts'
import { ZosError } from '../zos-error.ts'
import { isNetwork } from './book.ts'
import type { DeployRecord, UpdateRecord } from './journal/records.ts'
import { writeRecord } from './journal/wire.ts'
import { full } from './refusals.ts'
import type { Room } from './room.ts'

/**
 * What this node takes, whoever asks: so many deployments, of a size, with names of networks that are free.
 *
 * @throws {ZosError} By each of them.
 */
export interface Rules {
  /** @param accepting Twins of deployments that are just being accepted. */
  mustBeTaken(deployment: Deployment, accepting: Iterable<number>): void
  mustFit(deployment: Deployment): void
  mustHaveNetworkNames(twinId: number, contractId: bigint, workloads: readonly Workload[]): void
  /** A record that is not larger than a record may be. */
  sized<Written extends DeployRecord | UpdateRecord>(record: Written): Written
}

export function createRules({ limits, book }: Pick<Room, 'limits' | 'book'>): Rules {
  const mustBeTaken: Rules['mustBeTaken'] = (deployment, accepting) => {
    const { twinId, contractId, workloads } = deployment
    const twins = [...accepting]
    if (book.size + twins.length >= limits.deployments) {
      throw full(`this node has ${limits.deployments} deployments, it takes no more`)
    }
    const coming = twins.filter((twin) => twin === twinId).length
    if (book.ofTwin(twinId).size + coming >= limits.deploymentsPerTwin) {
      throw full(
        `twin ${twinId} has ${limits.deploymentsPerTwin} deployments here, it may have no more`,
      )
    }
    mustFit(deployment)
    mustHaveNetworkNames(twinId, contractId, workloads)
  }

  const mustFit: Rules['mustFit'] = ({ workloads }) => {
    const most = limits.workloads
    if (workloads.length > most) {
      throw new ZosError(
        'invalid',
        `a deployment may have ${most} workloads, this one has ${workloads.length}`,
      )
    }
  }

  const mustHaveNetworkNames: Rules['mustHaveNetworkNames'] = (twinId, contractId, workloads) => {
    for (const workload of workloads.filter(isNetwork)) {
      const owner = book.networkOwner(twinId, workload.name)
      if (owner === undefined || owner === contractId) continue
      throw new ZosError(
        'conflict',
        `global workload with the same name '${workload.name}' exists: conflict`,
      )
    }
  }

  const sized: Rules['sized'] = (record) => {
    const most = limits.recordBytes
    const size = new TextEncoder().encode(writeRecord(record)).length
    if (size > most) {
      throw new ZosError('invalid', `a deployment may need ${most} bytes, this one needs ${size}`)
    }
    return record
  }

  return { mustBeTaken, mustFit, mustHaveNetworkNames, sized }
}
