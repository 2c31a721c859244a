import * as v from 'valibot'
import { KnownCertificate, MAX_CERTIFICATES } from '../auth/certificates.ts'
import { KnownPeer, MAX_PEERS } from '../auth/peers.ts'

/** Durations a person may set, so that no limit can be switched off by accident. */
const milliseconds = (fallback: number, text: string) =>
  v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.description(text)), fallback)

const text = (description: string) => v.pipe(v.string(), v.nonEmpty(), v.description(description))

/** `0660` as the file has it; the core works with the number. */
const octal = v.pipe(
  v.string(),
  v.regex(/^0?[0-7]{3}$/, 'expected three octal digits such as "0660"'),
  v.transform((digits) => Number.parseInt(digits, 8)),
)

const Auth = v.picklist(['none', 'basic', 'key', 'certificate', 'peer'])

const Tls = v.strictObject({
  cert: text('PEM file with the certificate chain'),
  key: text('PEM file with the private key'),
  create_if_missing: v.optional(
    v.pipe(v.boolean(), v.description('Make a self-signed pair when neither file exists')),
    false,
  ),
  hosts: v.optional(
    v.pipe(v.array(v.string()), v.description('Names and addresses for a made certificate')),
    [],
  ),
  client_ca: v.optional(text('PEM file with the authorities that sign certificates of clients')),
  client_crl: v.optional(text('PEM file with their revocation lists')),
})

/** One `[[listen]]` table. */
export const Listen = v.pipe(
  v.strictObject({
    address: v.optional(text('host:port; the host may be empty for all interfaces')),
    unix: v.optional(text('Path of a Unix socket')),
    plugins: v.optional(
      v.pipe(v.array(v.string()), v.description('Plugins served here; default: all that may be')),
    ),
    routes: v.optional(
      v.pipe(
        v.array(text('Path such as "/v1/Info", or its last part such as "GetQuote"')),
        v.minLength(1),
        v.description('Serve these routes alone, so that a container gets a quote-only socket'),
      ),
    ),
    auth: v.optional(
      v.pipe(
        v.union([Auth, v.pipe(v.array(Auth), v.minLength(1))]),
        v.transform((given) => (typeof given === 'string' ? [given] : given)),
        v.description('How callers prove who they are: one way, or several of which one suffices'),
      ),
      'none',
    ),
    allow_anonymous: v.optional(
      v.pipe(v.boolean(), v.description('Accept auth = "none" on an address others can reach')),
      false,
    ),
    late: v.optional(
      v.pipe(
        v.boolean(),
        v.description('The address may be missing at the start: it is tried until it is there'),
      ),
      false,
    ),
    open_until_password: v.optional(
      v.pipe(
        v.boolean(),
        v.description('With basic: let everyone in until the first password is set'),
      ),
      false,
    ),
    mode: v.optional(v.pipe(octal, v.description('Permission bits of the Unix socket')), '0660'),
    group: v.optional(text('Group that owns the Unix socket')),
    hosts: v.optional(
      v.pipe(v.array(v.string()), v.description('Further Host names accepted on a loopback port')),
      [],
    ),
    tls: v.optional(Tls),
    core: v.optional(
      v.pipe(v.boolean(), v.description('Serve /livez and the /cvmd/ routes here')),
      true,
    ),
    dialect: v.optional(
      v.pipe(
        v.picklist(['problem', 'system-api', 'dstack']),
        v.description('How errors of no plugin look: problem+json, system-api or dstack'),
      ),
      'problem',
    ),
    max_head_bytes: v.optional(
      v.pipe(v.number(), v.integer(), v.minValue(1024), v.maxValue(16 * 1024 * 1024)),
      1024 * 1024,
    ),
    max_body_bytes: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0)), 10 * 1024 * 1024),
    head_timeout_ms: milliseconds(10_000, 'Time to send a request head'),
    idle_timeout_ms: milliseconds(60_000, 'Time a connection may stay silent'),
    request_timeout_ms: milliseconds(30_000, 'Time to answer; streams and actions are exempt'),
    max_connections: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1)), 4096),
    max_connections_per_peer: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1)), 256),
  }),
  v.check(
    ({ address, unix }) => (address === undefined) !== (unix === undefined),
    'give either "address" or "unix"',
  ),
)

/** The core's part of the configuration file. */
export const CoreConfig = v.strictObject({
  state_dir: v.optional(text('Folder for state, one folder per plugin in it')),
  run_dir: v.optional(text('Folder for sockets')),
  log: v.optional(
    v.strictObject({
      level: v.optional(v.picklist(['error', 'warn', 'info', 'debug']), 'info'),
      json: v.optional(v.pipe(v.boolean(), v.description('One JSON object per line')), false),
      requests: v.optional(
        v.pipe(v.boolean(), v.description('A line per finished request')),
        false,
      ),
    }),
    {},
  ),
  auth: v.optional(
    v.strictObject({
      password_file: v.optional(text('File with the hash of the Basic password')),
      password_salt: v.optional(v.pipe(v.string(), v.description('Appended before hashing')), ''),
      realm: v.optional(text('Realm in the Basic challenge'), 'cvmd'),
      peers: v.optional(v.pipe(v.array(KnownPeer), v.maxLength(MAX_PEERS)), []),
      certificates: v.optional(
        v.pipe(v.array(KnownCertificate), v.maxLength(MAX_CERTIFICATES)),
        [],
      ),
    }),
    {},
  ),
  attestation: v.optional(
    v.strictObject({
      deadline_ms: milliseconds(10_000, 'Time for one device call, waiting included'),
      waiting: v.optional(
        v.pipe(
          v.number(),
          v.integer(),
          v.minValue(0),
          v.maxValue(1024),
          v.description('Device calls that may wait behind the running one; more get 429'),
        ),
        16,
      ),
      tsm_entry: v.optional(
        text('Shared report entry such as "com.intel.dcap", locked per quote; default: one each'),
      ),
      runtime_events: v.optional(text('File of runtime events, in a folder a reboot empties')),
    }),
    {},
  ),
  shutdown_timeout_ms: milliseconds(10_000, 'Time for running requests when stopping'),
  start_timeout_ms: milliseconds(30_000, 'Time for one plugin to start'),
  listen: v.optional(v.array(Listen)),
  plugins: v.optional(v.record(v.string(), v.record(v.string(), v.unknown())), {}),
  external: v.optional(
    v.array(
      v.strictObject({
        path: v.pipe(
          v.string(),
          v.startsWith('/', 'must be an absolute path'),
          v.description('A bundled plugin module'),
        ),
        sha256: v.optional(
          v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, 'expected 64 lower-case hex digits')),
        ),
      }),
    ),
    [],
  ),
})

export type CoreConfig = v.InferOutput<typeof CoreConfig>
export type ListenConfig = v.InferOutput<typeof Listen>

/** The key every plugin table may carry beside the plugin's own. */
export const Enabled = v.optional(v.union([v.boolean(), v.literal('auto')]), 'auto')
export type Enabled = v.InferOutput<typeof Enabled>
