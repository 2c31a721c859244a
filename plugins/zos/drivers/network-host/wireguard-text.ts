import type { WireguardPlan } from './plan.ts'

/** 32 bytes of base64 in canonical form, as WireGuard writes its keys. */
export function isWireguardKey(text: string): boolean {
  return /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/.test(text)
}

/** Why `host:port` cannot go into a configuration file; undefined when it can, or is ''. */
export function endpointProblem(endpoint: string): string | undefined {
  if (endpoint === '') return undefined
  const [, host, digits = ''] =
    /^(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):(\d{1,5})$/.exec(endpoint) ?? []
  if (host === undefined) return 'it is not host:port'
  const port = Number(digits)
  return port >= 1 && port <= 65535 ? undefined : 'the port is not 1 to 65535'
}

/**
 * A configuration for `wg setconf` and `wg syncconf`. Holds the private key: it belongs in a file
 * that only the daemon reads, and nowhere else. Every value was checked by `networkPlan`.
 */
export function wireguardConfig({ privateKey, listenPort, peers }: WireguardPlan): string {
  const lines = ['[Interface]', `PrivateKey = ${privateKey}`]
  if (listenPort !== 0) lines.push(`ListenPort = ${listenPort}`)
  for (const { publicKey, allowedIps, endpoint } of peers) {
    lines.push('', '[Peer]', `PublicKey = ${publicKey}`)
    if (allowedIps.length > 0) lines.push(`AllowedIPs = ${allowedIps.join(', ')}`)
    // Keeps the way open through an address translation on either side, as the reference does.
    if (endpoint !== '') lines.push(`Endpoint = ${endpoint}`, 'PersistentKeepalive = 20')
  }
  return `${lines.join('\n')}\n`
}
