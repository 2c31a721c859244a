import { type Fields, struct } from '../json/compound.ts'
import { decodeJson, type Form } from '../json/form.ts'
import { JsonError } from '../json/json-error.ts'
import { string, u64 } from '../json/scalars.ts'
import { ZosError } from '../zos-error.ts'

/**
 * Reads a payload as a form says.
 *
 * @param before Words before those of the JSON reader: `failed to decode input, expecting string`.
 * @throws {ZosError} Of kind `decode`.
 */
export function readPayload<T>(payload: string, form: Form<T>, before?: string): T {
  try {
    return decodeJson(payload, form)
  } catch (cause) {
    if (!(cause instanceof JsonError)) throw cause
    const text = before === undefined ? cause.message : `${before}: ${cause.message}`
    throw new ZosError('decode', text, { cause })
  }
}

/** A struct of Go's without a name, by the only field it has. */
function args<T extends object>(field: string, fields: Fields<T>): Form<T> {
  const [[wire, form]] = Object.values(fields) as [readonly [string, Form<unknown>]]
  return struct<T>(`struct { ${field} ${form.goType} "json:\\"${wire}\\"" }`, fields)
}

const ContractArgs = args<{ contractId: bigint }>('ContractID', {
  contractId: ['contract_id', u64()],
})

/** Of `{"contract_id":8955}`. */
export function readContractId(payload: string): bigint {
  return readPayload(payload, ContractArgs).contractId
}

const NameArgs = struct<{ name: string }>('zosapi.Payload', { name: ['Name', string()] })
const NetworkArgs = args<{ network: string }>('NetworkName', {
  network: ['network_name', string('gridtypes.Name')],
})

/** Of `{"name":"cpu-benchmark"}`. */
export function readName(payload: string): string {
  return readPayload(payload, NameArgs, 'failed to unmarshal payload').name
}

/** Of `{"network_name":"net"}`. */
export function readNetworkName(payload: string): string {
  return readPayload(payload, NetworkArgs).network
}

/** Of a payload that is one JSON string. */
export function readString(payload: string, before: string): string {
  return readPayload(payload, string(), before)
}
