import { readDeployment } from '../deployment/read.ts'
import { deploymentWire, workloadWire } from '../deployment/wire.ts'
import { isOkay } from '../model.ts'
import type { DeploymentView } from '../provision/deployments.ts'
import { ZosError } from '../zos-error.ts'
import type { Command, CommandParts, CommandTable } from './parts.ts'
import { readContractId } from './payload.ts'

/** `zos.deployment` (spec §3). */
export function deploymentCommands({ deployments, check }: CommandParts): CommandTable {
  const owner = (answer: Command['answer']): Command => ({ caller: 'owner', answer })
  return {
    'zos.deployment.deploy': owner(({ twin, payload }) =>
      deployments.deploy(twin, readDeployment(payload, check)),
    ),
    'zos.deployment.update': owner(({ twin, payload }) =>
      deployments.update(twin, readDeployment(payload, check)),
    ),
    'zos.deployment.get': owner(({ twin, payload }) =>
      deploymentWire(deployments.get(twin, readContractId(payload))),
    ),
    'zos.deployment.changes': owner(async ({ twin, payload }) => {
      const changes = await deployments.changes(twin, readContractId(payload))
      if (changes.length === 0) return null
      return changes.map(({ workload, result }) => workloadWire(workload, result))
    }),
    'zos.deployment.list': owner(({ twin }) =>
      deployments.list(twin).filter(isActive).map(deploymentWire),
    ),
    'zos.deployment.delete': {
      caller: 'any',
      answer: () => {
        const text = 'deletion over the api is disabled, please cancel your contract instead'
        throw new ZosError('failed', text)
      },
    },
  }
}

/** §3.5: something of it is neither deleted nor failed. */
function isActive({ results }: DeploymentView): boolean {
  return results.some((result) => isOkay(result) || result.state === 'init')
}
