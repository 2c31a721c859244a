import { DriverError } from '../driver.ts'

/** An IPv4 network as two numbers; the host part is gone. */
export interface Ipv4Network {
  /** u32 */
  readonly base: number
  /** 0 to 32 */
  readonly prefix: number
}

const CIDR = /^(\d{1,3}(?:\.\d{1,3}){3})\/(\d{1,2})$/

/** Whether this is an IPv4 network in CIDR text. */
export function isIpv4Cidr(text: string): boolean {
  const [, address = '', prefix = ''] = CIDR.exec(text) ?? []
  return ipv4Number(address) !== undefined && Number(prefix) <= 32
}

/**
 * @param what For the message: `subnet`.
 * @throws {DriverError} `failed` unless it is an IPv4 network.
 */
export function ipv4Network(text: string, what: string): Ipv4Network {
  const [, address = '', digits = ''] = CIDR.exec(text) ?? []
  const number = ipv4Number(address)
  const prefix = Number(digits)
  if (number === undefined || digits === '' || prefix > 32) {
    throw new DriverError('failed', `Cannot use ${what} "${text}": only IPv4 networks are offered`)
  }
  return { base: maskTo(number, prefix), prefix }
}

/** Address text as u32, undefined when it is none. */
export function ipv4Number(text: string): number | undefined {
  const parts = text.split('.')
  if (parts.length !== 4) return undefined
  let number = 0
  for (const part of parts) {
    if (!/^\d{1,3}$/.test(part) || Number(part) > 255) return undefined
    number = number * 256 + Number(part)
  }
  return number
}

export function ipv4Text(number: number): string {
  return [24, 16, 8, 0].map((shift) => (number >>> shift) & 255).join('.')
}

export function cidrText({ base, prefix }: Ipv4Network): string {
  return `${ipv4Text(base)}/${prefix}`
}

/** Whether the second lies in the first, or is the same. */
export function covers(outer: Ipv4Network, inner: Ipv4Network): boolean {
  return inner.prefix >= outer.prefix && maskTo(inner.base, outer.prefix) === outer.base
}

/** Whether an address, as u32, is one of the network's. */
export function contains(network: Ipv4Network, address: number): boolean {
  return maskTo(address, network.prefix) === network.base
}

function maskTo(number: number, prefix: number): number {
  const size = 2 ** (32 - prefix)
  return number - (number % size)
}
