import { z } from 'zod'
import { bytesField } from '../../../src/compat/prpc/bytes.ts'

/*
 * Requests of the KMS (spec dstack §9.1). `vm_config` is what a machine says of itself; the image
 * that it names is believed only where it was measured, so nothing here reads it.
 */

const vmConfig = z.string().default('').describe('Not looked at: what was measured counts')

const rootVersion = z
  .number()
  .int()
  .min(0)
  .optional()
  .describe('Whose keys: a version of the root keys; left out, the current one')

export const EnvKeyRequest = z.object({
  app_id: bytesField('Of the application, 20 bytes'),
  root_version: rootVersion,
})

export const AppKeyRequest = z.object({
  api_version: z.number().int().min(0).default(0).describe('0 or 1, which answer the same'),
  vm_config: vmConfig,
  root_version: rootVersion,
})

export const KmsKeyRequest = z.object({ vm_config: vmConfig })

export const SignCertRequest = z.object({
  api_version: z.number().int().min(0).default(0).describe('1 or 2, how csr is written'),
  csr: bytesField('SCALE'),
  signature: bytesField('By the key that the certificate is for: ECDSA with SHA-256, DER'),
  vm_config: vmConfig,
  root_version: rootVersion,
})

export const NamedKeyRequest = z.object({
  name: z
    .string()
    // A lone surrogate would be replaced on its way to UTF-8, by the same as others.
    .refine((value) => !/\p{Cs}/u.test(value), 'is no Unicode text')
    .default('')
    .describe('Name of the key'),
  root_version: rootVersion,
})
