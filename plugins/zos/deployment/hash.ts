import { md5 } from '@noble/hashes/legacy'
import type { Deployment, SignatureRequirement, WorkloadOf, WorkloadType } from '../model.ts'
import { kindOf } from './types/kinds.ts'

/**
 * The text that is hashed (spec zos §5). It leaves out the contract, the signatures and the results.
 */
export function challengeOf(deployment: Deployment): string {
  const { version, twinId, metadata, description, expiration } = deployment
  return (
    `${version}${twinId}${metadata}${description}${expiration}` +
    deployment.workloads.map(workloadChallenge).join('') +
    requirementChallenge(deployment.signatureRequirement)
  )
}

/** MD5 of {@link challengeOf}, 16 bytes: what is signed, and what the contract names in hex. */
export function hashOf(deployment: Deployment): Uint8Array {
  return md5(new TextEncoder().encode(challengeOf(deployment)))
}

/** The part of one workload. */
export function workloadChallenge<T extends WorkloadType>(workload: WorkloadOf<T>): string {
  const { version, name, type, metadata, description } = workload
  const data = kindOf(type).challenge(workload.data)
  return `${version}${name}${type}${metadata}${description}${data}`
}

function requirementChallenge(requirement: SignatureRequirement): string {
  const { requests, weightRequired, signatureStyle } = requirement
  const asked = requests.map(({ twinId, required, weight }) => `${twinId}${required}${weight}`)
  return `${asked.join('')}${weightRequired}${signatureStyle}`
}
