import { struct } from '../json/compound.ts'
import { clipped } from '../json/json-error.ts'
import { string, u32 } from '../json/scalars.ts'
import { ZosError } from '../zos-error.ts'
import { readPayload } from './payload.ts'

const ListRequest = struct<{ twinId: number }>('debugcmd.ListRequest', {
  twinId: ['twin_id', u32],
})

/** Of `{"twin_id":42}`, `{}` or nothing; undefined, as twin 0, is all of them. */
export function readTwinFilter(payload: string): number | undefined {
  return payload === '' ? undefined : readPayload(payload, ListRequest).twinId || undefined
}

/** One deployment of anybody. */
export interface DebugTarget {
  readonly twinId: number
  readonly contractId: bigint
  readonly workload: string
}

interface Request {
  readonly deployment: string
  readonly workload: string
}

/**
 * Of `{"deployment":"42:8955","workload":"vm"}`.
 *
 * @param name Of the request in the reference: `GetRequest`.
 * @throws {ZosError} Also where the deployment is not `twin:contract`, in the words of zosbase
 *   `pkg/debugcmd/deps.go`.
 */
export function readDebugTarget(payload: string, name: string): DebugTarget {
  const form = struct<Request>(`debugcmd.${name}`, {
    deployment: ['deployment', string()],
    workload: ['workload', string()],
  })
  const { deployment, workload } = readPayload(payload, form)
  if (name === 'InfoRequest' && workload === '') throw wrong('workload name is required')
  if (deployment === '') throw wrong('deployment identifier is required')
  const [twin = '', contract = '', ...more] = deployment.split(':', 3)
  if (!deployment.includes(':') || more.length > 0) {
    const got = clipped(deployment)
    throw wrong(`invalid deployment format: expected 'twin-id:contract-id', got '${got}'`)
  }
  return {
    twinId: Number(parseUint(twin, 32, 'twin ID')),
    contractId: parseUint(contract, 64, 'contract ID'),
    workload,
  }
}

/** As Go's `strconv.ParseUint`. */
function parseUint(text: string, bits: number, what: string): bigint {
  const digits = /^\d{1,64}$/.test(text)
  if (digits && BigInt.asUintN(bits, BigInt(text)) === BigInt(text)) return BigInt(text)
  const why = digits ? 'value out of range' : 'invalid syntax'
  const got = clipped(text)
  const parsing = `strconv.ParseUint: parsing ${JSON.stringify(got)}: ${why}`
  throw wrong(`invalid ${what}: ${got}: ${parsing}`)
}

function wrong(text: string): ZosError {
  return new ZosError('decode', text)
}
