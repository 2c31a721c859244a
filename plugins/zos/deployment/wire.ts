import { RawJson } from '../json/print.ts'
import type { Result, SignatureRequirement, Workload } from '../model.ts'
import type { DeploymentView } from '../provision/deployments.ts'

/** A deployment with its results as a value for `printJson` (spec zos §4.1, `changes.json`). */
export function deploymentWire({ deployment, results }: DeploymentView): unknown {
  return {
    version: deployment.version,
    twin_id: deployment.twinId,
    contract_id: deployment.contractId,
    metadata: deployment.metadata,
    description: deployment.description,
    expiration: deployment.expiration,
    signature_requirement: requirementWire(deployment.signatureRequirement),
    workloads: deployment.workloads.map((workload, i) => workloadWire(workload, results[i])),
  }
}

/** A workload as a value for `printJson`; without a result it is as it was submitted. */
export function workloadWire(workload: Workload, result?: Result): unknown {
  return {
    version: workload.version,
    name: workload.name,
    type: workload.type,
    data: new RawJson(workload.rawData),
    metadata: workload.metadata,
    description: workload.description,
    result: result && {
      created: result.created,
      state: result.state,
      message: result.message,
      data: new RawJson(result.data),
    },
  }
}

function requirementWire(requirement: SignatureRequirement): unknown {
  const { requests, weightRequired, signatures, signatureStyle } = requirement
  return {
    requests: orNull(
      requests.map(({ twinId, required, weight }) => ({ twin_id: twinId, required, weight })),
    ),
    weight_required: weightRequired,
    signatures: orNull(
      signatures.map(({ twinId, signature, signatureType }) => ({
        twin_id: twinId,
        signature,
        signature_type: signatureType,
      })),
    ),
    signature_style: signatureStyle,
  }
}

/** Go prints a list that was never filled as null. */
function orNull<T>(list: readonly T[]): readonly T[] | null {
  return list.length === 0 ? null : list
}
