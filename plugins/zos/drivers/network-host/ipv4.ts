import { DriverError } from '../driver.ts'
import { readSubnet, type Subnet } from '../network-engine/subnet.ts'

/**
 * @param what For the message: `subnet`.
 * @throws {DriverError} `failed` unless it is an IPv4 network.
 */
export function ipv4Network(text: string, what: string): Subnet {
  const found = readSubnet(text)
  if (found !== undefined) return found
  const shown = text.slice(0, 80)
  throw new DriverError('failed', `Cannot use ${what} "${shown}": only IPv4 networks are offered`)
}

/** Whether the second lies in the first, or is the same. */
export function covers(outer: Subnet, inner: Subnet): boolean {
  return inner.network >= outer.network && inner.broadcast <= outer.broadcast
}
