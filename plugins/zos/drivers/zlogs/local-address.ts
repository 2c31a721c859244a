import { lookup } from 'node:dns/promises'
import { connect, isIP } from 'node:net'
import { within } from '../../../../src/deadline.ts'
import { type Guard, selfProblem } from '../guard.ts'

/** Why such an address is not taken: services of the host trust it. */
export const LOCAL = 'it is an address of this node itself'

const LOOKUP_MS = 10_000
const CONNECT_MS = 10_000

/**
 * Whether an address is of this node alone (loopback, link-local with its metadata services), or of
 * nobody. The reference sends from inside the machine's network, where these are not the node's.
 */
export function isLocalAddress(address: string): boolean {
  switch (isIP(address)) {
    case 4:
      return isLocalIpv4(address.split('.').map(Number))
    case 6:
      return isLocalIpv6(address)
    default:
      return /^(?:.*\.)?localhost\.?$/i.test(address)
  }
}

function isLocalIpv4([a = 0, b = 0]: readonly number[]): boolean {
  return a === 0 || a === 127 || (a === 169 && b === 254) || a >= 224
}

function isLocalIpv6(address: string): boolean {
  const zoneless = address.split('%')[0] ?? ''
  // Written in the one way there is: lower case, shortest, without dots.
  const text = new URL(`http://[${zoneless}]`).hostname.slice(1, -1)
  const mapped = /^::(?:ffff:)?([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(text)
  if (mapped) {
    const [high, low] = [Number.parseInt(mapped[1] ?? '', 16), Number.parseInt(mapped[2] ?? '', 16)]
    return isLocalIpv4([high >> 8, high & 255, low >> 8, low & 255])
  }
  // Unspecified and loopback, link-local, multicast.
  return text === '::' || text === '::1' || /^(?:fe[89ab]|ff)/.test(text)
}

/**
 * The address to connect to.
 *
 * @throws {Error} When the name is not found, or stands for what may not be reached; or nobody is there.
 */
export async function reachable(host: string, port: number, refuses: Guard): Promise<string> {
  const found = isIP(host) > 0 ? [host] : await addressesOf(host)
  if (found.some((address) => refuses(address) !== undefined)) throw new Error(LOCAL)
  const [address] = found
  if (address === undefined) throw new Error('its name has no address')
  if (await isSelf(address, port, refuses)) throw new Error(LOCAL)
  return address
}

/** By a connection over which nothing is said: what is to be said is not for the node. */
function isSelf(host: string, port: number, refuses: Guard): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port })
    socket.setTimeout(CONNECT_MS, () => socket.destroy(new Error('it does not answer')))
    socket.once('error', reject)
    socket.once('connect', () => {
      resolve(selfProblem(socket, refuses) !== undefined)
      socket.destroy()
    })
  })
}

async function addressesOf(host: string): Promise<string[]> {
  const found = await within(LOOKUP_MS, lookup(host, { all: true }), 'find the address')
  return found.map(({ address }) => address)
}
