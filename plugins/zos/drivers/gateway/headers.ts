/** What is said from one hop to the next only (RFC 9110: section 7.6.1). */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

/** What only this proxy may say, so that backends can believe it. */
const FORWARDED = new Set([
  'forwarded',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-port',
  'x-forwarded-proto',
  'x-forwarded-server',
  'x-real-ip',
])

/** Who asked for what, as seen here. */
export interface Client {
  /** IP address. */
  readonly address: string
  readonly protocol: 'http' | 'https'
  /** Port of this proxy. */
  readonly port: number
  /** `Host` header. */
  readonly host: string
}

/**
 * A request's headers for the backend, in their order, names and repetitions kept.
 *
 * @param raw Names and values in turn.
 */
export function requestHeaders(raw: readonly string[], client: Client): [string, string][] {
  // Answered already, where it was asked for.
  const kept = endToEnd(raw).filter(([name]) => {
    const lower = name.toLowerCase()
    return !FORWARDED.has(lower) && lower !== 'expect'
  })
  return [
    ...kept,
    ['X-Forwarded-For', client.address],
    ['X-Forwarded-Host', client.host],
    ['X-Forwarded-Port', String(client.port)],
    ['X-Forwarded-Proto', client.protocol],
    ['X-Real-Ip', client.address],
  ]
}

/** Headers that are for the other end, without those that `Connection` names. */
export function endToEnd(raw: readonly string[]): [string, string][] {
  const pairs: [string, string][] = []
  for (let at = 0; at + 1 < raw.length; at += 2) pairs.push([raw[at] ?? '', raw[at + 1] ?? ''])
  const named = new Set(
    pairs
      .filter(([name]) => name.toLowerCase() === 'connection')
      .flatMap(([, value]) => value.split(',').map((one) => one.trim().toLowerCase())),
  )
  // The length of a body is not a connection's to take away: it would end elsewhere then.
  named.delete('content-length')
  named.delete('host')
  return pairs.filter(([name]) => {
    const lower = name.toLowerCase()
    return !HOP_BY_HOP.has(lower) && !named.has(lower)
  })
}

/** For `writeHead`: repeated names become lists, which all runtimes take. */
export function asRecord(
  pairs: readonly (readonly [string, string])[],
): Record<string, string | string[]> {
  const byName = new Map<string, { readonly name: string; readonly values: string[] }>()
  for (const [name, value] of pairs) {
    const known = byName.get(name.toLowerCase())
    if (known) known.values.push(value)
    else byName.set(name.toLowerCase(), { name, values: [value] })
  }
  return Object.fromEntries(
    [...byName.values()].map(({ name, values }) => [
      name,
      values.length === 1 ? (values[0] ?? '') : values,
    ]),
  )
}
