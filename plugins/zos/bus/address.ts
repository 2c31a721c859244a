/** Where a Redis is. */
export interface BusAddress {
  /** With its credentials: for the client alone. */
  readonly url: string
  /** Without credentials: for people. */
  readonly label: string
}

/**
 * @param text `redis://[user:password@]host[:port][/database]`, `rediss://…` or `unix:///path`.
 * @throws {TypeError} When it is no such address; what it says is not quoted, it may hold a password.
 */
export function readBusAddress(text: string): BusAddress {
  const unix = /^unix:\/\/(?:[^/@]*@)?(\/[^?#]+)(?:\?.*)?$/.exec(text)
  if (unix) return { url: text, label: `unix:${unix[1]}` }
  let url: URL | undefined
  try {
    url = new URL(text)
    decodeURIComponent(url.username + url.password)
  } catch {
    // The error of the constructor quotes the text.
    url = undefined
  }
  const known = url && ['redis:', 'rediss:'].includes(url.protocol) && url.hostname !== ''
  if (!url || !known || !/^(\/\d*)?$/.test(url.pathname) || url.search !== '') {
    throw new TypeError(
      'Cannot use the address of the message bus: expected redis://[user:password@]host[:port][/database], ' +
        'rediss:// for TLS, or unix:///path/of/socket',
    )
  }
  const database = url.pathname.length > 1 ? url.pathname : ''
  return { url: text, label: `${url.hostname}:${url.port || 6379}${database}` }
}
