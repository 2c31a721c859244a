import * as v from 'valibot'
import { parseAddress } from '../../../src/config/address.ts'
import type { Permissions } from '../../../src/plugin.ts'
import { PolicyConfig, policyPermissions } from '../policy/config.ts'
import { VERIFICATION_LIMITS } from '../trust/verification-budget.ts'

const address = (text: string) =>
  v.pipe(
    v.string(),
    v.check((value) => parseAddress(value) !== undefined, 'expected HOST:PORT'),
    v.description(text),
  )

const count = (least: number, most: number, text: string) =>
  v.pipe(v.number(), v.integer(), v.minValue(least), v.maxValue(most), v.description(text))

/** The table `[plugins.kms.server]`: a KMS for other VMs. */
export const ServerConfig = v.strictObject({
  address: v.optional(address('Where it is served, over RA-TLS'), '127.0.0.1:12001'),
  onboard_address: v.optional(address('Where it is set up, over HTTP; default: address')),
  root_keys: v.optional(
    v.pipe(
      v.string(),
      v.startsWith('/', 'expected an absolute path'),
      v.description(
        'Folder of the root keys, as the cert_dir of dstack; default: in the state directory',
      ),
    ),
  ),
  require_token: v.optional(
    v.pipe(v.boolean(), v.description('Set up only by who can read the token on this machine')),
    true,
  ),
  source_ca: v.optional(
    v.pipe(
      v.string(),
      v.startsWith('/', 'expected an absolute path'),
      v.description('PEM of the root certificates a KMS may have whose keys are taken over'),
    ),
  ),
  site_name: v.optional(
    v.pipe(
      v.string(),
      v.maxLength(256),
      v.description('For GetAttestationInfo, to tell sites apart'),
    ),
    '',
  ),
  auto_bootstrap_domain: v.optional(
    v.pipe(
      v.string(),
      v.description('Make root keys for this name at the first start, without a caller'),
    ),
  ),
  enforce_self_authorization: v.optional(
    v.pipe(
      v.boolean(),
      v.description('Give nothing away unless the policy allows this KMS itself'),
    ),
    true,
  ),
  max_connections: v.optional(count(1, 65_536, 'Connections at a time'), 1024),
  max_connections_per_peer: v.optional(count(1, 65_536, 'The same of one address'), 128),
  verifications_per_second: v.optional(
    count(1, 10_000, 'Evidence of strangers that is looked at, of all together'),
    VERIFICATION_LIMITS.all.perSecond,
  ),
  verifications_per_second_per_peer: v.optional(
    count(1, 10_000, 'The same of one IPv4 address or IPv6 /64'),
    VERIFICATION_LIMITS.perPeer.perSecond,
  ),
  policy: PolicyConfig,
})

export type ServerConfig = v.InferOutput<typeof ServerConfig>

/**
 * What a KMS reads, writes, serves and asks. The hosts of other KMS are not known before somebody
 * names them.
 */
export function serverPermissions(config: ServerConfig): Permissions {
  const { root_keys, source_ca, address, onboard_address = address } = config
  const { read = [], net = [] } = policyPermissions(config.policy)
  const folder = root_keys === undefined ? [] : [root_keys]
  return {
    read: [...read, ...folder, ...(source_ca === undefined ? [] : [source_ca])],
    write: folder,
    net: [...net, address, onboard_address].map(hostOf),
  }
}

/** `:PORT` is every interface. */
const hostOf = (address: string): string =>
  address.startsWith(':') ? `0.0.0.0${address}` : address
