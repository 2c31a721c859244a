import * as v from 'valibot'
import { truthy } from './coercions.ts'
import { HostError } from './host-error.ts'
import { canHold, isDnsAddress, type PROXY_FIELDS, type ProxySettings } from './redsocks.ts'

/** Where DNS goes when only `true` is said (spec §20.2). */
const DEFAULT_DNS = '8.8.8.8:53'

/** Entries of `noProxy`, and the length of each. */
const MAX_NO_PROXY = 1000
const MAX_NO_PROXY_LENGTH = 255

/** As long as Linux takes (HOST_NAME_MAX, include/uapi/linux/limits.h has it as 64). */
const HOSTNAME = /^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$/

/** What a PATCH of the host's configuration asks for (spec §20.1). */
export interface HostConfigInput {
  readonly proxy?: ProxyInput
  /** Empty for the default one. */
  readonly hostname?: string
  readonly force: boolean
}

/** What becomes of the proxy. */
export interface ProxyInput {
  /** `proxy: {}`: the proxy goes. */
  readonly clear: boolean
  /** Fields to change. */
  readonly settings: Omit<ProxySettings, 'dns'>
  /** False removes it; undefined leaves it. */
  readonly dns?: string | false
  readonly noProxy?: readonly string[]
}

const Dns = v.union(
  [v.boolean(), v.pipe(v.string(), v.check(isDnsAddress))],
  'must be true, false or "ADDR:PORT"',
)

const NoProxy = v.pipe(
  v.array(
    v.pipe(
      v.string('must be a text'),
      v.maxLength(MAX_NO_PROXY_LENGTH),
      v.regex(/^[^\p{Cc}\s]+$/u, 'must be an address or subnet'),
    ),
    'must be a list of texts',
  ),
  v.maxLength(MAX_NO_PROXY, `must have at most ${MAX_NO_PROXY} entries`),
)

const Hostname = v.pipe(
  v.string('must be a text'),
  v.check(
    (text) => text === '' || HOSTNAME.test(text),
    'must have at most 64 letters, digits and "._-", a letter or digit first and last',
  ),
)

const network = <Proxy extends v.GenericSchema>(proxy: Proxy) =>
  v.looseObject({
    network: v.looseObject(
      {
        proxy: v.exactOptional(
          v.pipe(
            v.custom<object>(isObject, 'must be an object'),
            v.transform((value) => value as unknown),
            proxy,
          ),
        ),
        hostname: v.exactOptional(Hostname),
      },
      'must be an object',
    ),
  })

/** The form the documentation has. */
const Strict = network(
  v.object({
    type: v.exactOptional(
      v.picklist(
        ['socks4', 'socks5', 'http-connect', 'http-relay'],
        'must be socks4, socks5, http-connect or http-relay',
      ),
    ),
    ip: v.exactOptional(v.pipe(v.string('must be a text'), holds('ip'))),
    port: v.exactOptional(
      v.pipe(
        v.number('must be a number'),
        v.integer('must be a whole number'),
        v.minValue(1, 'must be 1 to 65535'),
        v.maxValue(65_535, 'must be 1 to 65535'),
      ),
    ),
    login: v.exactOptional(v.pipe(v.string('must be a text'), holds('login'))),
    password: v.exactOptional(v.pipe(v.string('must be a text'), holds('password'))),
    dns: v.exactOptional(Dns),
    noProxy: v.exactOptional(NoProxy),
  }),
)

const scalar = (field: (typeof PROXY_FIELDS)[number]) =>
  v.exactOptional(
    v.pipe(
      v.union([v.string(), v.number(), v.boolean()], 'must be a text or number'),
      v.transform(String),
      holds(field),
    ),
  )

/** What balena's supervisor takes all the same, as far as the files can hold it. */
const Loose = network(
  v.object({
    type: scalar('type'),
    ip: scalar('ip'),
    port: scalar('port'),
    login: scalar('login'),
    password: scalar('password'),
    dns: v.exactOptional(Dns),
    noProxy: v.exactOptional(NoProxy),
  }),
)

/**
 * Reads the body of a PATCH. Fields that are not known are ignored, as are `local_ip` and
 * `local_port`.
 *
 * @param strict Refuses what the documentation does not have: an unknown type, a port that is a text.
 * @throws {HostError} 400 `HOST_CONFIG_INVALID`, with the path of the field and never its value.
 */
export function parseHostConfig(body: unknown, strict = false): HostConfigInput {
  const result = v.safeParse(strict ? Strict : v.union([Strict, Loose]), body)
  // Of a union only the last form's reasons are of use.
  const { issues } = result.success ? result : v.safeParse(strict ? Strict : Loose, body)
  if (!result.success) throw refusal(issues ?? result.issues)
  const { proxy, hostname } = result.output.network
  const top = isObject(body) ? (body as { force?: unknown }).force : undefined
  const inner = (result.output.network as { force?: unknown }).force
  return {
    force: truthy(top) || truthy(inner),
    ...(hostname === undefined ? {} : { hostname }),
    ...(proxy === undefined ? {} : { proxy: proxyInput(proxy, body) }),
  }
}

function proxyInput(
  proxy: Omit<ProxySettings, 'dns'> & { dns?: boolean | string; noProxy?: string[] },
  body: unknown,
): ProxyInput {
  const { dns, noProxy, ...settings } = proxy
  const sent = (body as { network: { proxy: object } }).network.proxy
  return {
    clear: Object.keys(sent).length === 0,
    settings,
    ...(dns === undefined ? {} : { dns: dns === true ? DEFAULT_DNS : dns }),
    ...(noProxy === undefined ? {} : { noProxy }),
  }
}

function refusal(issues: readonly v.BaseIssue<unknown>[]): HostError {
  const reasons = issues.slice(0, 10).map((issue) => {
    const path = v.getDotPath(issue) ?? 'the body'
    const missing = issue.received === 'undefined'
    return `${path} ${missing ? 'is missing' : issue.message}`
  })
  return new HostError(
    'HOST_CONFIG_INVALID',
    400,
    `Could not parse host config input to a valid format: ${reasons.join('; ')}`,
  )
}

function holds(field: (typeof PROXY_FIELDS)[number]) {
  return v.check(
    (value: string) => canHold(field, value),
    'is empty, too long, or has characters that redsocks.conf cannot hold',
  )
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
