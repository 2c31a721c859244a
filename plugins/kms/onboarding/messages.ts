import { z } from 'zod'

/* Requests of the set-up (spec dstack §9.5). What their texts have to be is checked by who uses them. */

const domain = z.string().default('').describe('DNS name or IP address of this KMS')

export const BootstrapRequest = z.object({ domain })

export const OnboardRequest = z.object({
  source_url: z.string().default('').describe('Of another KMS: https://HOST:PORT'),
  domain,
})

export const EmptyRequest = z.object({})
