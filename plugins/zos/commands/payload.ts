import { optional, struct } from '../json/compound.ts'
import { decodeJson, type Form } from '../json/form.ts'
import { JsonError } from '../json/json-error.ts'
import { string, u32, u64 } from '../json/scalars.ts'
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

const ContractArgs = struct<{ contractId: bigint }>('struct', {
  contractId: ['contract_id', u64()],
})

/** Of `{"contract_id":8955}`. */
export function readContractId(payload: string): bigint {
  return readPayload(payload, ContractArgs).contractId
}

const NameArgs = struct<{ name: string }>('struct', { name: ['name', string()] })
const NetworkArgs = struct<{ network: string }>('struct', { network: ['network_name', string()] })

/** Of `{"name":"cpu-benchmark"}`. */
export function readName(payload: string): string {
  return readPayload(payload, NameArgs).name
}

/** Of `{"network_name":"net"}`. */
export function readNetworkName(payload: string): string {
  return readPayload(payload, NetworkArgs).network
}

/** Of a payload that is one JSON string. */
export function readString(payload: string, before: string): string {
  return readPayload(payload, string(), before)
}

const ListArgs = struct<{ twinId: number | undefined }>('struct', {
  twinId: ['twin_id', optional(u32)],
})

/** Of `{"twin_id":42}`, `{}` or nothing. */
export function readTwinFilter(payload: string): number | undefined {
  return payload.trim() === '' ? undefined : readPayload(payload, ListArgs).twinId
}

interface WorkloadArgs {
  readonly deployment: string
  readonly workload: string
}

const WorkloadForm = struct<WorkloadArgs>('struct', {
  deployment: ['deployment', string()],
  workload: ['workload', string()],
})

/**
 * Of `{"deployment":"42:8955","workload":"vm"}`.
 *
 * @throws {ZosError} Also where the deployment is not `twin:contract`.
 */
export function readDebugTarget(payload: string) {
  const { deployment, workload } = readPayload(payload, WorkloadForm)
  const [, twin = '', contract = ''] = /^(\d{1,10}):(\d{1,20})$/.exec(deployment) ?? []
  if (twin === '' || Number(twin) > 0xffff_ffff || BigInt(contract) > 0xffff_ffff_ffff_ffffn) {
    throw new ZosError(
      'decode',
      `invalid deployment '${deployment.slice(0, 64)}', expected <twin>:<contract>`,
    )
  }
  return { twinId: Number(twin), contractId: BigInt(contract), workload }
}
