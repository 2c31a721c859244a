import * as v from 'valibot'
import { secret } from '../../src/config/secret.ts'
import { UpstreamConfig } from './agent/config.ts'
import { ServerConfig } from './server/config.ts'
import { TrustConfig } from './trust/config.ts'

const MAX_NAMES = 10_000

const Fields = v.strictObject({
  role: v.optional(
    v.pipe(
      v.picklist(['agent', 'server']),
      v.description('agent: keys for the application in this VM; server: keys for other VMs'),
    ),
    'agent',
  ),
  key_file: v.optional(secret()),
  upstream: v.optional(UpstreamConfig),
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
  trust: v.optional(TrustConfig, {}),
  server: v.optional(ServerConfig),
})

/** The table `[plugins.kms]`. */
export const Config = v.pipe(
  Fields,
  v.forward(
    v.check(
      ({ role, server }) => role === 'agent' || server !== undefined,
      'missing: role = "server" needs it',
    ),
    ['server'],
  ),
  v.forward(
    v.check(
      ({ role, server }) => role === 'server' || server === undefined,
      'is for role = "server"',
    ),
    ['server'],
  ),
  v.forward(
    v.check(
      ({ role, upstream }) => role === 'agent' || upstream === undefined,
      'is for role = "agent"',
    ),
    ['upstream'],
  ),
  v.forward(
    v.check(
      ({ key_file, upstream }) => key_file === undefined || upstream === undefined,
      'the keys come from key_file already',
    ),
    ['upstream'],
  ),
)

export type Config = v.InferOutput<typeof Config>
