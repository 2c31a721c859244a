import { decodeJson } from '../json/form.ts'
import { JsonError } from '../json/json-error.ts'
import type { DataOf, Workload, WorkloadType } from '../model.ts'
import { ZosError } from '../zos-error.ts'
import type { WorkloadEnvelope } from './envelope.ts'
import { isWorkloadType, kindOf } from './types/kinds.ts'

/**
 * Reads a workload's data.
 *
 * @throws {ZosError} `invalid` for an unknown type or data that is not of it.
 */
export function readData(envelope: WorkloadEnvelope): Workload {
  const { type, rawData } = envelope
  if (!isWorkloadType(type)) throw new ZosError('invalid', `invalid reservation type '${type}'`)
  return { ...envelope, type, data: dataOf(type, rawData) } as Workload
}

function dataOf<T extends WorkloadType>(type: T, rawData: string): DataOf[T] {
  const { form } = kindOf(type)
  const failed = `failed to load data into object of type '*${form.goType}'`
  // The reference panics here (§4.4).
  if (rawData === 'null') throw new ZosError('invalid', `${failed}: null`)
  try {
    return decodeJson(rawData, form)
  } catch (cause) {
    if (!(cause instanceof JsonError)) throw cause
    throw new ZosError('invalid', `${failed}: ${cause.message}`, { cause })
  }
}
