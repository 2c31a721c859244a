import { z } from 'zod'
import { lazySchema } from '../../../src/lazy-schema.ts'

/*
 * What operators send and get at `/cvmd/kms`. Nothing of it is secret: of each version there are the
 * public keys and the certificate, which an operator has to give to clients before it is used.
 */

export const RotateBody = lazySchema(() =>
  z.strictObject({
    prepare: z.boolean().default(false).describe('Only make the keys: nobody gets them unasked'),
  }),
)

export const UseBody = lazySchema(() =>
  z.strictObject({
    version: z.number().int().min(0).describe('A version that there is'),
  }),
)

export const SyncBody = lazySchema(() =>
  z.strictObject({
    source_url: z
      .string()
      .min(1)
      .max(2048)
      .describe('A KMS of the same cluster: https://HOST:PORT'),
  }),
)

const RootVersion = lazySchema(() =>
  z.object({
    version: z.int(),
    current: z.boolean().describe('Whether it is answered to those who name no version'),
    k256_public_key: z.string().describe('By which its signatures are verified; compressed, hex'),
    ca_public_key: z
      .string()
      .describe('SubjectPublicKeyInfo in DER, hex: the id of a key provider'),
    ca_fingerprint: z.string().describe('SHA-256 of the root certificate in DER, hex'),
    ca_not_after: z.string().describe('Until when the root certificate is valid'),
    ca_cert: z.string().describe('The root certificate, PEM'),
  }),
)

const RequestCount = lazySchema(() =>
  z.object({
    method: z.string(),
    outcome: z.string().describe('answered, or the code of the refusal'),
    reason: z.string().describe('Why it was refused, where more is known; else empty'),
    count: z.int(),
  }),
)

export const StatusAnswer = lazySchema(() =>
  z.object({
    mode: z.enum(['stopped', 'onboarding', 'waiting', 'serving']),
    reason: z.string().nullable().describe('Why it does not serve keys'),
    address: z.string().nullable(),
    domain: z.string().nullable(),
    version: z.int().nullable().describe('The current one'),
    versions: z.array(RootVersion),
    requests: z.array(RequestCount).describe('Since the start, by method, outcome and reason'),
  }),
)

/** Which versions there are after a change. */
const Versions = lazySchema(() =>
  z.object({
    current: z.int(),
    versions: z.array(z.int()),
  }),
)

export const RotateAnswer = lazySchema(() =>
  Versions.extend({ version: z.int().describe('The one that was made') }),
)

export const UseAnswer = Versions

export const SyncAnswer = lazySchema(() => Versions.extend({ added: z.array(z.int()) }))
