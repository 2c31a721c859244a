import * as v from 'valibot'
import { secret } from '../../src/config/secret.ts'

const MAX_NAMES = 10_000

/** The table `[plugins.kms]`. */
export const Config = v.strictObject({
  role: v.optional(
    v.pipe(v.picklist(['agent']), v.description('agent: keys for the application in this VM')),
    'agent',
  ),
  key_file: v.optional(secret()),
  permitted_keys: v.optional(
    v.pipe(
      v.array(v.string()),
      v.maxLength(MAX_NAMES),
      v.description('Names of the keys an application may have; default: any name'),
    ),
  ),
  cached_keys: v.optional(
    v.pipe(
      v.number(),
      v.integer(),
      v.minValue(0),
      v.maxValue(100_000),
      v.description('How many derived keys are kept in memory'),
    ),
    1000,
  ),
  evidence_form: v.optional(
    v.pipe(
      v.picklist(['attestation', 'quote']),
      v.description('How a certificate carries evidence; quote is for old verifiers of dstack'),
    ),
    'attestation',
  ),
})

export type Config = v.InferOutput<typeof Config>
