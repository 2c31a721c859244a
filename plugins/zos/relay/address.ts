/** Where a relay is. */
export interface RelayAddress {
  /** What the token is appended to: `wss://relay.grid.tf/?`. */
  readonly prefix: string
  /** As twins name it in the registry: `relay.grid.tf`. */
  readonly host: string
}

/**
 * @param text `wss://relay.grid.tf`, or `ws://` for one on this machine or in tests.
 * @throws {TypeError} When it is no such address.
 */
export function readRelayAddress(text: string): RelayAddress {
  const url = URL.canParse(text) ? new URL(text) : undefined
  const plain = url && url.username === '' && url.password === '' && url.search + url.hash === ''
  if (!url || !plain || !['ws:', 'wss:'].includes(url.protocol)) {
    throw new TypeError(
      'Cannot use the address of a relay: expected wss://host[:port], without credentials or query',
    )
  }
  return {
    prefix: `${url.origin === 'null' ? `${url.protocol}//${url.host}` : url.origin}${url.pathname}?`,
    host: url.host,
  }
}
