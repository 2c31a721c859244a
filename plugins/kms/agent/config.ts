import * as v from 'valibot'
import type { Permissions } from '../../../src/plugin.ts'

/** The table `[plugins.kms.upstream]`: the KMS that an agent has its keys from. */
export const UpstreamConfig = v.strictObject({
  urls: v.pipe(
    v.array(
      v.pipe(
        v.string(),
        v.check(isKmsUrl, 'expected https://HOST:PORT, without a user, a query or a fragment'),
      ),
    ),
    v.minLength(1),
    v.maxLength(16),
    v.description('Base URLs of the KMS; the others of its cluster are asked when one is away'),
  ),
  root_ca: v.pipe(
    v.string(),
    v.startsWith('/', 'expected an absolute path'),
    v.description(
      'PEM of the root certificates a KMS may have; one made with other root keys is refused',
    ),
  ),
  root_version: v.optional(
    v.pipe(
      v.number(),
      v.integer(),
      v.minValue(0),
      v.maxValue(0xffff_ffff),
      v.description(
        "Version of the KMS's root keys that the keys are derived from; default: that of the newest root in root_ca",
      ),
    ),
  ),
  deadline_ms: v.optional(
    v.pipe(
      v.number(),
      v.integer(),
      v.minValue(100),
      v.maxValue(60_000),
      v.description('How long one KMS may take for an answer, in milliseconds'),
    ),
    10_000,
  ),
})

export type UpstreamConfig = v.InferOutput<typeof UpstreamConfig>

/** The files an agent reads and the KMS it asks; the seed in its state folder is not listed. */
export function agentPermissions(config: {
  readonly key_file?: { readonly file: string } | undefined
  readonly upstream?: UpstreamConfig | undefined
}): Permissions {
  const { key_file, upstream } = config
  // Which KMS signs for a key file stands in that file alone.
  if (key_file) return { read: [key_file.file] }
  if (upstream) return { read: [upstream.root_ca], net: upstream.urls.map(hostOf) }
  return {}
}

/** What stands there is repeated in errors and events, so nothing secret may. */
function isKmsUrl(text: string): boolean {
  if (!URL.canParse(text) || /[?#]/.test(text)) return false
  const { protocol, username, password } = new URL(text)
  return protocol === 'https:' && username === '' && password === ''
}

function hostOf(text: string): string {
  const { hostname, port } = new URL(text)
  return `${hostname}:${port || 443}`
}
