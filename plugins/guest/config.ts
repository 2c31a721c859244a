import * as v from 'valibot'

const path = (description: string) =>
  v.optional(
    v.pipe(v.string(), v.startsWith('/', 'expected an absolute path'), v.description(description)),
  )

const hex = (bytes: number, description: string) =>
  v.optional(
    v.pipe(
      v.string(),
      v.regex(
        new RegExp(`^[0-9a-f]{${bytes * 2}}$`),
        `expected ${bytes * 2} lower-case hex digits`,
      ),
      v.description(description),
    ),
  )

const flag = (description: string) => v.optional(v.pipe(v.boolean(), v.description(description)))

/** The table `[plugins.guest]`. */
export const Config = v.strictObject({
  app_compose: path('app-compose.json; the SHA-256 of its bytes is the compose hash'),
  sys_config: path('sys-config.json; its vm_config is passed on and names the OS image'),
  app_id: hex(20, 'Default: the first 20 bytes of the compose hash'),
  os_image_hash: hex(32, 'Default: os_image_hash of the vm_config'),
  no_instance_id: flag('Leave the instance id empty; default: what app-compose.json says'),
  key_provider: v.optional(
    v.strictObject({
      name: v.picklist(['none', 'local', 'kms', 'tpm']),
      id: v.optional(
        v.pipe(
          v.string(),
          v.regex(/^([0-9a-f]{2})*$/, 'expected lower-case hex'),
          v.description('What identifies it, such as the public key of a KMS, in hex'),
        ),
        '',
      ),
    }),
  ),
  emit_event: v.optional(
    v.pipe(v.boolean(), v.description('Let applications measure events of their own into RTMR3')),
    false,
  ),
  measure_identity: flag(
    'Measure app id, compose hash and the rest at the first start; default: with --simulate only',
  ),
  public_tcbinfo: flag('Show registers and configuration to everyone; default: app-compose.json'),
  public_sysinfo: flag('Serve /metrics on public listeners; default: app-compose.json'),
  attestation_cache_ms: v.optional(
    v.pipe(
      v.number(),
      v.integer(),
      v.minValue(0),
      v.maxValue(600_000),
      v.description('How long an answer of /attestation without a nonce is given again'),
    ),
    5000,
  ),
  attestations_per_minute: v.optional(
    v.pipe(
      v.number(),
      v.integer(),
      v.minValue(1),
      v.maxValue(6000),
      v.description('Answers of /attestation with a nonce, all callers together; more get 429'),
    ),
    60,
  ),
})

export type Config = v.InferOutput<typeof Config>
