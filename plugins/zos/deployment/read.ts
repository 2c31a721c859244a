import { decodeJson, type Form } from '../json/form.ts'
import { JsonError } from '../json/json-error.ts'
import type { Deployment, Workload } from '../model.ts'
import { ZosError } from '../zos-error.ts'
import { type CheckOptions, checkEnvelope } from './check.ts'
import { readData } from './data.ts'
import { deploymentForm, workloadForm } from './envelope.ts'

/**
 * Reads a deployment and checks its structure (spec zos §3.1, steps 1 and 2).
 *
 * @param text At most 1 MiB.
 * @throws {ZosError} `decode` when it is not the JSON of a deployment, `invalid` when a rule is
 * broken or a workload's data is not of its type.
 */
export function readDeployment(text: string, options: CheckOptions = {}): Deployment {
  return checkEnvelope(decode(text, deploymentForm), options)
}

/**
 * Reads a deployment that was accepted before: without the rules, only what cannot be read fails.
 *
 * @throws {ZosError} As {@link readDeployment}.
 */
export function readTrustedDeployment(text: string): Deployment {
  const envelope = decode(text, deploymentForm)
  return { ...envelope, workloads: envelope.workloads.map(readData) }
}

/**
 * Reads the wire form of one workload, as in a journal. Its result is not read, no rule is checked.
 *
 * @throws {ZosError} As {@link readDeployment}.
 */
export function readWorkload(text: string): Workload {
  return readData(decode(text, workloadForm))
}

function decode<T>(text: string, form: Form<T>): T {
  try {
    return decodeJson(text, form)
  } catch (cause) {
    if (!(cause instanceof JsonError)) throw cause
    throw new ZosError('decode', cause.message, { cause })
  }
}
