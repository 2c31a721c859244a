import { encode } from 'cborg'
import { type CborMap, decodeCbor } from '../attest/nitro/cbor.ts'
import { type NsmDescription, NsmError, type NsmFields, type PcrState } from './devices.ts'

/** Requests to the Nitro Secure Module and its responses (spec nitro §2), CBOR. */

/** Longest request the driver takes (NSM_REQUEST_MAX_SIZE in drivers/misc/nsm.c). */
const MAX_REQUEST_BYTES = 4096
const MAX_U16 = 0xffff
const MAX_MODULE_ID = 256
const RANDOM_BYTES = 256
const DIGESTS: readonly unknown[] = ['SHA256', 'SHA384', 'SHA512']
const PCR_BYTES: readonly number[] = [32, 48, 64]

/** The module's own refusals (`ErrorCode` of the vendor's library), but for `Success`. */
const REFUSALS = [
  'InvalidArgument',
  'InvalidIndex',
  'InvalidResponse',
  'ReadOnlyIndex',
  'InvalidOperation',
  'BufferTooSmall',
  'InputTooLarge',
  'InternalError',
] as const

/** One operation: what to send, and how to read what comes back. */
export interface NsmCall<T> {
  /** 1 to 4096 bytes. */
  readonly request: Uint8Array
  /** @throws {NsmError} What the module refused, or `InvalidResponse`. */
  readResponse(response: Uint8Array): T
}

/** What the module is, and which registers are locked. */
export const describeNsm = (): NsmCall<NsmDescription> =>
  call('DescribeNSM', undefined, (fields) => {
    const parts = ['version_major', 'version_minor', 'version_patch'].map((part) =>
      fields.u16(part),
    )
    return {
      version: parts.join('.'),
      moduleId: fields.text('module_id', MAX_MODULE_ID),
      maxPcrs: fields.u16('max_pcrs'),
      lockedPcrs: fields.indices('locked_pcrs'),
      digest: fields.oneOf('digest', DIGESTS),
    }
  })

/** 256 random bytes. */
export const getRandom = (): NsmCall<Uint8Array> =>
  call('GetRandom', undefined, (fields) => fields.bytes('random', [RANDOM_BYTES]))

/** A register's value and lock. @throws {NsmError} `InvalidIndex`, as all that take an index. */
export const describePcr = (index: number): NsmCall<PcrState> =>
  call('DescribePCR', { index: asIndex(index, 'DescribePCR') }, (fields) => ({
    locked: fields.flag('lock'),
    value: fields.bytes('data', PCR_BYTES),
  }))

/** `PCR := SHA384(PCR || data)`, answered by the new value. @throws {NsmError} `InputTooLarge`. */
export const extendPcr = (index: number, data: Uint8Array): NsmCall<Uint8Array> =>
  call('ExtendPCR', { index: asIndex(index, 'ExtendPCR'), data }, (fields) =>
    fields.bytes('data', PCR_BYTES),
  )

/** Locks one register until the enclave ends. */
export const lockPcr = (index: number): NsmCall<void> =>
  act('LockPCR', { index: asIndex(index, 'LockPCR') })

/** Locks the registers from 0 to `range` - 1. */
export const lockPcrs = (range: number): NsmCall<void> =>
  act('LockPCRs', { range: asIndex(range, 'LockPCRs') })

/** A document as it comes; what it holds is not looked at. @throws {NsmError} `InputTooLarge`. */
export const attestation = ({ userData, nonce, publicKey }: NsmFields): NsmCall<Uint8Array> =>
  call(
    'Attestation',
    { user_data: userData ?? null, nonce: nonce ?? null, public_key: publicKey ?? null },
    (fields) => fields.bytes('document'),
  )

/**
 * A response that is not what was asked for.
 *
 * @param found `its response …`
 */
export const invalidResponse = (operation: string, found: string, cause?: unknown): NsmError =>
  new NsmError('InvalidResponse', operation, `its response ${found}`, { cause })

type Arguments = Readonly<Record<string, number | Uint8Array | null>>

/** An operation answered by a map of fields under its name. */
function call<T>(
  operation: string,
  given: Arguments | undefined,
  read: (fields: Fields) => T,
): NsmCall<T> {
  return {
    request: encodeRequest(operation, given),
    readResponse: (response) => read(new Fields(openResponse(operation, response), operation)),
  }
}

/** An operation answered by its bare name. */
function act(operation: string, given: Arguments): NsmCall<void> {
  return {
    request: encodeRequest(operation, given),
    readResponse: (response) => {
      if (openResponse(operation, response) !== undefined) {
        throw invalidResponse(operation, 'is not its bare name')
      }
    },
  }
}

/** The vendor's library writes arguments in the order they are declared; so does this. */
function encodeRequest(operation: string, given: Arguments | undefined): Uint8Array {
  const lengths = Object.values(given ?? {}).map((value) => (isBytes(value) ? value.byteLength : 0))
  const atLeast = lengths.reduce((sum, length) => sum + length, 0)
  if (atLeast > MAX_REQUEST_BYTES) throw tooLarge(operation, atLeast)
  const message = given === undefined ? operation : { [operation]: given }
  const request = encode(message, { mapSorter: () => 0 })
  if (request.byteLength > MAX_REQUEST_BYTES) throw tooLarge(operation, request.byteLength)
  return request
}

const isBytes = (value: unknown): value is Uint8Array => value instanceof Uint8Array

function tooLarge(operation: string, bytes: number): NsmError {
  const found = `the request has ${bytes} bytes, at most ${MAX_REQUEST_BYTES} are taken`
  return new NsmError('InputTooLarge', operation, found)
}

/**
 * @returns The fields of the answer; undefined for a bare name.
 * @throws {NsmError}
 */
function openResponse(operation: string, response: Uint8Array): unknown {
  const message = decodeResponse(operation, response)
  if (message === operation) return undefined
  if (!(message instanceof Map) || message.size !== 1) {
    throw invalidResponse(operation, 'is no map of one entry')
  }
  const refusal = REFUSALS.find((name) => name === message.get('Error'))
  if (refusal !== undefined) throw new NsmError(refusal, operation)
  if (!message.has(operation)) throw invalidResponse(operation, 'answers something else')
  return message.get(operation)
}

function decodeResponse(operation: string, response: Uint8Array): unknown {
  try {
    return decodeCbor(response, `response to ${operation}`)
  } catch (error) {
    throw invalidResponse(operation, 'is no CBOR', error)
  }
}

/** The kernel takes any index of 16 bits; which of them exist, the module says. */
function asIndex(value: number, operation: string): number {
  if (Number.isInteger(value) && value >= 0 && value <= MAX_U16) return value
  throw new NsmError('InvalidIndex', operation, `${value} is no integer of 16 bits`)
}

/** The fields of one answer; whatever is wrong with them is `InvalidResponse`. */
class Fields {
  readonly #fields: CborMap
  readonly #operation: string

  constructor(fields: unknown, operation: string) {
    if (!(fields instanceof Map)) throw invalidResponse(operation, 'holds no fields')
    this.#fields = fields
    this.#operation = operation
  }

  u16(name: string): number {
    return this.#get(name, isU16)
  }

  indices(name: string): readonly number[] {
    return this.#get(name, (value): value is number[] => Array.isArray(value) && value.every(isU16))
  }

  flag(name: string): boolean {
    return this.#get(name, (value) => typeof value === 'boolean')
  }

  /** Text that is not empty. */
  text(name: string, most: number): string {
    return this.#get(
      name,
      (value): value is string =>
        typeof value === 'string' && value.length > 0 && value.length <= most,
    )
  }

  oneOf(name: string, values: readonly unknown[]): string {
    return this.#get(
      name,
      (value): value is string => typeof value === 'string' && values.includes(value),
    )
  }

  /** Bytes of one of these lengths, or of any that the response has room for. */
  bytes(name: string, lengths?: readonly number[]): Uint8Array {
    return this.#get(
      name,
      (value): value is Uint8Array =>
        isBytes(value) && (lengths?.includes(value.byteLength) ?? true),
    )
  }

  #get<T>(name: string, is: (value: unknown) => value is T): T {
    const value = this.#fields.get(name)
    if (is(value)) return value
    throw invalidResponse(this.#operation, `has no usable ${name}`)
  }
}

function isU16(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= MAX_U16
}
