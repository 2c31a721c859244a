/** A TCP address to listen on. */
export interface TcpAddress {
  /** Host as node:net takes it; `::` for every interface. */
  readonly host: string
  readonly port: number
  readonly loopback: boolean
}

/**
 * Reads `host:port`, `[v6]:port` or `:port` (every interface, as Go reads it).
 *
 * @returns Undefined when it is none of these.
 */
export function parseAddress(text: string): TcpAddress | undefined {
  const match = /^(?:\[([0-9A-Fa-f:.%]+)\]|([^:[\]/\s]*)):(\d{1,5})$/.exec(text)
  if (!match) return undefined
  const [, v6, name = '', digits] = match
  const port = Number(digits)
  if (port > 65_535) return undefined
  const host = v6 ?? (name === '' ? '0.0.0.0' : name === 'localhost' ? '127.0.0.1' : name)
  return { host, port, loopback: host === '::1' || /^127\./.test(host) }
}
