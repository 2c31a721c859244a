import * as v from 'valibot'
import { secret } from '../../../src/config/secret.ts'
import type { Permissions } from '../../../src/plugin.ts'

const LOOPBACK = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])$/

const path = (text: string) => v.pipe(v.string(), v.startsWith('/'), v.description(text))

/** How a service over HTTP is asked, whatever it speaks. */
const HTTP = {
  token: v.optional(secret()),
  ca_file: v.optional(path('PEM of the authorities that may have signed its certificate')),
  allow_plain_http: v.optional(
    v.pipe(v.boolean(), v.description('Ask another machine without TLS: who is between decides')),
    false,
  ),
  deadline_ms: v.optional(
    v.pipe(
      v.number(),
      v.integer(),
      v.minValue(100),
      v.maxValue(60_000),
      v.description('How long a decision may take, in milliseconds'),
    ),
    5000,
  ),
}

const url = (text: string) =>
  v.pipe(
    v.string(),
    v.check(
      (value) => /^https?:$/.test(parsed(value)?.protocol ?? ''),
      'expected a URL with http or https',
    ),
    v.check(
      (value) => !parsed(value)?.username && !parsed(value)?.password,
      'a URL may not hold credentials: use token',
    ),
    v.description(text),
  )

const plain = (value: string): boolean => !/[?#]/.test(value)

const isPrivate = (value: string, allowed: boolean): boolean => {
  const found = parsed(value)
  return allowed || found?.protocol !== 'http:' || LOOPBACK.test(found.hostname)
}

const NOT_PRIVATE =
  'without TLS only this machine is asked: use https, or set allow_plain_http = true'

const Webhook = v.strictObject({
  type: v.literal('webhook'),
  url: v.pipe(
    url('Base URL of a policy service of dstack'),
    v.check(plain, 'expected a URL without query'),
  ),
  ...HTTP,
})

const File = v.strictObject({
  type: v.literal('file'),
  file: path('JSON in the format of auth-simple of dstack, read on every request'),
})

const Chain = v.strictObject({
  type: v.literal('chain'),
  rpc_url: url('JSON-RPC of an Ethereum node, which is believed'),
  rpc_path: v.optional(secret()),
  contract: v.pipe(
    v.string(),
    v.regex(/^0x[0-9a-f]{40}$/i, 'expected 0x and 40 hex digits'),
    v.description('Address of the contract DstackKms'),
  ),
  chain_id: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  confirmations: v.optional(
    v.pipe(
      v.number(),
      v.integer(),
      v.minValue(0),
      v.maxValue(100_000),
      v.description('How many blocks must have followed the state that counts'),
    ),
    0,
  ),
  ...HTTP,
})

const Dev = v.strictObject({
  type: v.literal('dev'),
  gateway_app_id: v.optional(v.pipe(v.string(), v.maxLength(256)), ''),
})

/** The table `[plugins.kms.server.policy]`: who may get keys. */
export const PolicyConfig = v.variant('type', [
  v.pipe(
    Webhook,
    v.forward(
      v.check(({ url, allow_plain_http }) => isPrivate(url, allow_plain_http), NOT_PRIVATE),
      ['url'],
    ),
  ),
  File,
  v.pipe(
    Chain,
    v.forward(
      v.check(({ rpc_url, allow_plain_http }) => isPrivate(rpc_url, allow_plain_http), NOT_PRIVATE),
      ['rpc_url'],
    ),
  ),
  Dev,
])

export type PolicyConfig = v.InferOutput<typeof PolicyConfig>

/** The files a policy reads and the host it asks. */
export function policyPermissions(config: PolicyConfig): Permissions {
  switch (config.type) {
    case 'dev':
      return {}
    case 'file':
      return { read: [config.file] }
    case 'webhook':
      return { read: filesOf(config), net: [hostOf(config.url)] }
    case 'chain':
      return { read: filesOf(config, config.rpc_path), net: [hostOf(config.rpc_url)] }
  }
}

type Named = { readonly file: string } | undefined

function filesOf(
  { token, ca_file }: { readonly token?: Named; readonly ca_file?: string | undefined },
  more?: Named,
): string[] {
  return [token?.file, ca_file, more?.file].filter((file) => file !== undefined)
}

function hostOf(text: string): string {
  const { hostname, port, protocol } = new URL(text)
  return `${hostname}:${port || (protocol === 'https:' ? 443 : 80)}`
}

function parsed(text: string): URL | undefined {
  return URL.canParse(text) ? new URL(text) : undefined
}
