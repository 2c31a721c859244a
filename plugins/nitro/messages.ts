import { z } from 'zod'
import { bytesField, hex, requiredBytes } from '../../src/compat/prpc/bytes.ts'
import type { NsmDescription, NsmFields, PcrState } from '../../src/device/devices.ts'
import { ApiError } from '../../src/errors.ts'
import { lazySchema } from '../../src/lazy-schema.ts'

/** No field of a document is longer; real ones have as many (spec nitro §3). */
const MAX_FIELD_BYTES = 1024

/** Fields the document is to carry. */
export const AttestationRequest = lazySchema(() =>
  z.object({
    user_data: bytesField('At most 1024 bytes, of which the module promises to take 512'),
    nonce: bytesField('The same'),
    public_key: bytesField('At most 1024 bytes, to which a recipient may encrypt'),
  }),
)

export const AttestationAnswer = lazySchema(() =>
  z.object({
    document: z.string().describe('COSE_Sign1 in base64'),
  }),
)

export const ModuleAnswer = lazySchema(() =>
  z.object({
    version: z.string(),
    module_id: z.string(),
    max_pcrs: z.int(),
    locked_pcrs: z.array(z.int()),
    digest: z.string(),
  }),
)

export const PcrAnswer = lazySchema(() =>
  z.object({
    index: z.int(),
    locked: z.boolean(),
    value: z.string().describe('48 bytes in hex'),
  }),
)

export const PcrListAnswer = lazySchema(() => z.object({ pcrs: z.array(PcrAnswer) }))

export const ExtendAnswer = lazySchema(() => PcrAnswer.omit({ locked: true }))

export const LockAnswer = lazySchema(() =>
  z.object({ locked: z.array(z.int()).describe('What was asked for') }),
)

/** Whether there is such a register is for the module to say; it takes 16 bits. */
export const PcrParam = lazySchema(() =>
  z.object({
    index: z
      .string()
      .regex(/^\d{1,5}$/, 'must be a number')
      .transform(Number)
      .pipe(z.int().max(0xffff)),
  }),
)

/** Strict, and nothing left out: an extended register cannot be set back. */
export const ExtendBody = lazySchema(() =>
  z.strictObject({
    data: requiredBytes('What the register is extended with, of any length the module takes'),
  }),
)

export const LockBody = lazySchema(() =>
  z.strictObject({
    range: z.int().min(1).max(0xffff).describe('Registers 0 to range - 1 are locked'),
  }),
)

/**
 * The fields for the module; an empty one counts as left out, as everywhere in this dialect.
 *
 * @throws {ApiError} 400 `FIELD_TOO_LONG`, over 1024 bytes. What is shorter is the module's to judge.
 */
export function fieldsOf(request: z.output<typeof AttestationRequest>): NsmFields {
  for (const [name, { length }] of Object.entries(request)) {
    if (length <= MAX_FIELD_BYTES) continue
    throw new ApiError(
      400,
      'FIELD_TOO_LONG',
      `Cannot attest: ${name} has ${length} bytes, a document holds at most ${MAX_FIELD_BYTES}`,
    )
  }
  const given = (bytes: Uint8Array) => (bytes.length > 0 ? bytes : undefined)
  return {
    userData: given(request.user_data),
    nonce: given(request.nonce),
    publicKey: given(request.public_key),
  }
}

export function moduleAnswer(module: NsmDescription): z.output<typeof ModuleAnswer> {
  return {
    version: module.version,
    module_id: module.moduleId,
    max_pcrs: module.maxPcrs,
    locked_pcrs: [...module.lockedPcrs],
    digest: module.digest,
  }
}

export function pcrAnswer(index: number, { locked, value }: PcrState): z.output<typeof PcrAnswer> {
  return { index, locked, value: hex(value) }
}
