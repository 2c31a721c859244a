import { deploymentWire } from '../deployment/wire.ts'
import { workloadId } from '../model.ts'
import type { DeploymentView } from '../provision/deployments.ts'
import { ZosError } from '../zos-error.ts'
import { readDebugTarget, readTwinFilter } from './debug-payload.ts'
import type { Command, CommandParts, CommandTable } from './parts.ts'
import { redact, redactText } from './redact.ts'

/** `zos.debug` for admins, without running anything (spec §9.8, §15): and without secrets. */
export function debugCommands({ deployments }: CommandParts): CommandTable {
  const admin = (answer: Command['answer']): Command => ({ caller: 'admin', answer })
  return {
    'zos.debug.deployment.list': admin(({ payload }) => ({
      deployments: deployments.list(readTwinFilter(payload)).map(summary),
    })),
    'zos.debug.deployment.get': admin(({ payload }) => {
      const { twinId, contractId } = readDebugTarget(payload, 'GetRequest')
      return { deployment: deploymentWire(withoutSecrets(deployments.get(twinId, contractId))) }
    }),
    'zos.debug.deployment.history': admin(async ({ payload }) => {
      const { twinId, contractId } = readDebugTarget(payload, 'HistoryRequest')
      const changes = await deployments.changes(twinId, contractId)
      return {
        deployment: `${twinId}:${contractId}`,
        history: changes.map(({ workload, result }, at) => ({
          seq: at + 1,
          type: workload.type,
          name: workload.name,
          created: result.created,
          state: result.state,
          message: result.message,
        })),
      }
    }),
    'zos.debug.deployment.info': admin(async ({ payload }) => {
      const target = readDebugTarget(payload, 'InfoRequest')
      const { twinId, contractId, workload: name } = target
      const { deployment, results } = deployments.get(twinId, contractId)
      const index = deployment.workloads.findIndex((workload) => workload.name === name)
      const [workload, result] = [deployment.workloads[index], results[index]]
      if (!workload || !result)
        throw new ZosError('not-found', `workload '${name}' not found in deployment`)
      return {
        workload_id: workloadId(twinId, contractId, name),
        type: workload.type,
        name,
        info: {
          state: result.state,
          message: result.message,
          created: result.created,
          data: redact(result.data),
        },
        logs: await deployments.logs(twinId, contractId, name),
      }
    }),
    'zos.debug.deployment.health': admin(async ({ payload }) => {
      const { twinId, contractId } = readDebugTarget(payload, 'HealthRequest')
      const workloads = await deployments.health(twinId, contractId)
      return {
        twin_id: twinId,
        contract_id: contractId,
        workloads: workloads.map(({ id, type, name, checks }) => ({
          workload_id: id,
          type,
          name,
          status: checks.every(({ ok }) => ok) ? 'healthy' : 'unhealthy',
          checks,
        })),
      }
    }),
  }
}

function summary({ deployment, results }: DeploymentView) {
  return {
    twin_id: deployment.twinId,
    contract_id: deployment.contractId,
    workloads: deployment.workloads.map(({ type, name }, index) => ({
      type,
      name,
      state: results[index]?.state,
    })),
  }
}

function withoutSecrets({ deployment, results }: DeploymentView): DeploymentView {
  return {
    deployment: {
      ...deployment,
      metadata: redactText(deployment.metadata),
      description: redactText(deployment.description),
      workloads: deployment.workloads.map((workload) => ({
        ...workload,
        metadata: redactText(workload.metadata),
        description: redactText(workload.description),
        rawData: redact(workload.rawData).text,
      })),
    },
    results: results.map((result) => ({ ...result, data: redact(result.data).text })),
  }
}
