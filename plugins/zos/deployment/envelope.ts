import { list, struct } from '../json/compound.ts'
import { bool, raw, string, timestamp, u32, u64 } from '../json/scalars.ts'
import type { Deployment, Signature, SignatureRequest, SignatureRequirement } from '../model.ts'

/** A deployment of which the workloads' data is not looked at yet. */
export interface Envelope extends Omit<Deployment, 'workloads'> {
  readonly workloads: readonly WorkloadEnvelope[]
}

export interface WorkloadEnvelope {
  readonly version: number
  readonly name: string
  readonly type: string
  /** JSON without white space between tokens, '' when there is none. */
  readonly rawData: string
  readonly metadata: string
  readonly description: string
}

/** A workload; its result is the node's to write, and is not read. */
export const workloadForm = struct<WorkloadEnvelope>('gridtypes.Workload', {
  version: ['version', u32],
  name: ['name', string('gridtypes.Name')],
  type: ['type', string('gridtypes.WorkloadType')],
  rawData: ['data', raw],
  metadata: ['metadata', string()],
  description: ['description', string()],
})

const signatureRequirement = struct<SignatureRequirement>('gridtypes.SignatureRequirement', {
  requests: [
    'requests',
    list(
      struct<SignatureRequest>('gridtypes.SignatureRequest', {
        twinId: ['twin_id', u32],
        required: ['required', bool],
        weight: ['weight', u64('uint')],
      }),
    ),
  ],
  weightRequired: ['weight_required', u64('uint')],
  signatures: [
    'signatures',
    list(
      struct<Signature>('gridtypes.Signature', {
        twinId: ['twin_id', u32],
        signature: ['signature', string()],
        signatureType: ['signature_type', string()],
      }),
    ),
  ],
  signatureStyle: ['signature_style', string('gridtypes.SignatureStyle')],
})

export const deploymentForm = struct<Envelope>('gridtypes.Deployment', {
  version: ['version', u32],
  twinId: ['twin_id', u32],
  contractId: ['contract_id', u64()],
  metadata: ['metadata', string()],
  description: ['description', string()],
  expiration: ['expiration', timestamp],
  signatureRequirement: ['signature_requirement', signatureRequirement],
  workloads: ['workloads', list(workloadForm)],
})
