import { z } from 'zod'
import { bytesField } from '../../../src/compat/prpc/bytes.ts'
import { lazySchema } from '../../../src/lazy-schema.ts'
import { LAST_SECOND } from '../certificates/leaf.ts'

/** Of what is hashed with Keccak, which the runtimes lack and JavaScript is slow at. */
const MAX_CLAIMED = 16 * 1024
const MAX_SUBJECT = 256
const MAX_ALT_NAMES = 32

/** Text that hashes to one thing only: a lone surrogate would be replaced on its way to UTF-8. */
const text = (description: string, most = Number.MAX_SAFE_INTEGER) =>
  z
    .string()
    .max(most)
    .refine((value) => !/\p{Cs}/u.test(value), 'is no Unicode text')
    .default('')
    .describe(description)

const flag = (description: string) => z.boolean().default(false).describe(description)

const seconds = (description: string) =>
  z
    .number()
    .int()
    .min(0)
    .max(LAST_SECOND)
    .optional()
    .describe(`${description}, Unix time in seconds`)

export const KeyRequest = lazySchema(() =>
  z.object({
    path: text('Name of the key'),
    purpose: text('What the root key vouches for', MAX_CLAIMED),
    algorithm: z.string().default('').describe('secp256k1 (default), k256 or ed25519'),
  }),
)

export const KeyRequestV1 = lazySchema(() =>
  z.object({
    domain: text('Name of the key', MAX_CLAIMED),
    algorithm: z.string().default('').describe('secp256k1 or ed25519'),
  }),
)

const certificateFields = {
  subject: text('Common name', MAX_SUBJECT),
  alt_names: z.array(z.string()).max(MAX_ALT_NAMES).default([]).describe('DNS names, IP addresses'),
  usage_ra_tls: flag('Put evidence about the key into the certificate'),
  usage_server_auth: flag('For TLS servers'),
  usage_client_auth: flag('For TLS clients'),
}

export const TlsKeyRequest = lazySchema(() =>
  z.object({
    ...certificateFields,
    not_before: seconds('Begin of validity'),
    not_after: seconds('End of validity'),
    with_app_info: flag('Put what is measured of the application into the certificate'),
  }),
)

export const DeriveKeyRequest = lazySchema(() =>
  z.object({
    path: text('Name of the key'),
    ...certificateFields,
    random_seed: flag('Take a fresh key in place of a derived one'),
  }),
)

const SIGNING = 'secp256k1, secp256k1_prehashed or ed25519'

export const SignRequest = lazySchema(() =>
  z.object({
    algorithm: z.string().default('').describe(SIGNING),
    data: bytesField('What is signed; with secp256k1_prehashed its digest, 32 bytes'),
  }),
)

export const VerifyRequest = lazySchema(() =>
  SignRequest.extend({
    signature: bytesField('64 bytes'),
    public_key: bytesField('SEC1, or of Ed25519 32 bytes'),
  }),
)
