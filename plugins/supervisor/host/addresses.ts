import { readdir } from 'node:fs/promises'
import type { NetworkInterfaceInfo } from 'node:os'
import { join } from 'node:path'
import { readTextFile } from '../../../src/files/text-file.ts'

/** Interfaces whose addresses are nobody's business outside (spec §21.3). */
const SKIPPED =
  /^((balena|docker|rce|tun)[0-9]+|br-[0-9a-f]{12}|resin-vpn|lo|resin-dns|supervisor0|(balena|resin)-redsocks)$/

/** ARPHRD_ETHER, include/uapi/linux/if_arp.h. */
const ETHERNET = '1'

/** How long what was read is used (spec §21.3). */
const MAX_AGE_MS = 30_000

const MAX_BYTES = 4096

/** The shape of `os.networkInterfaces()`. */
export type Interfaces = Readonly<Record<string, readonly NetworkInterfaceInfo[] | undefined>>

/** What the device is reached by, as the API shows it: separated by spaces. */
export interface DeviceAddresses {
  /** Undefined when there is none (spec §4.9). */
  readonly ip: string | undefined
  /** Upper case; undefined when there is none. */
  readonly mac: string | undefined
}

export interface AddressesOptions {
  /** `os.networkInterfaces`. */
  readonly interfaces: () => Interfaces
  /** `/sys/class/net`. */
  readonly netFolder: string
  /** Monotonic milliseconds. */
  readonly now?: (() => number) | undefined
}

/** The addresses of the device, read again at most every 30 s. */
export class Addresses {
  readonly #options: AddressesOptions
  readonly #now: () => number
  #known: DeviceAddresses | undefined
  #readAt = Number.NEGATIVE_INFINITY
  #reading: Promise<DeviceAddresses> | undefined

  constructor(options: AddressesOptions) {
    this.#options = options
    this.#now = options.now ?? (() => performance.now())
  }

  /** Never rejects: what cannot be read is left out. */
  async get(): Promise<DeviceAddresses> {
    const age = this.#now() - this.#readAt
    if (this.#known && age < MAX_AGE_MS) return this.#known
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined
    })
    // A hundred containers are hundreds of files: who asks all the time does not wait for them.
    return this.#known && age < 2 * MAX_AGE_MS ? this.#known : this.#reading
  }

  async #read(): Promise<DeviceAddresses> {
    const interfaces = readInterfaces(this.#options.interfaces)
    const macs = await macAddresses(this.#options.netFolder)
    this.#known = {
      ip: joined(ipAddresses(interfaces)),
      mac: joined(macs.length > 0 ? macs : macsOf(interfaces)),
    }
    this.#readAt = this.#now()
    return this.#known
  }
}

/** Addresses that others can use: IPv4 first, then IPv6 of global scope (spec §21.3). */
export function ipAddresses(interfaces: Interfaces): string[] {
  const all = Object.entries(interfaces)
    .filter(([name]) => !SKIPPED.test(name))
    .flatMap(([, addresses]) => addresses ?? [])
    .filter(({ internal }) => !internal)
  const four = all.filter(({ family }) => family === 'IPv4')
  const six = all.filter((found) => found.family === 'IPv6' && found.scopeid === 0)
  return [...new Set([...four, ...six].map(({ address }) => address))]
}

/**
 * Addresses of the Ethernet interfaces that belong to no bridge or bond, in the kernel's order
 * (spec §4.9); empty when the folder cannot be read.
 *
 * @param folder `/sys/class/net` (ABI/testing/sysfs-class-net).
 */
export async function macAddresses(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => [])
  const found = await Promise.all(names.map((name) => macOf(join(folder, name))))
  const own = found.filter((one) => one !== undefined).sort((a, b) => a.index - b.index)
  return [...new Set(own.map(({ mac }) => mac))]
}

async function macOf(path: string): Promise<{ index: number; mac: string } | undefined> {
  try {
    const field = async (name: string) => (await readTextFile(join(path, name), MAX_BYTES)).trim()
    if ((await field('type')) !== ETHERNET) return undefined
    if ((await readdir(path)).includes('master')) return undefined
    const mac = await field('address')
    if (!isMac(mac)) return undefined
    return { index: Number(await field('ifindex')) || 0, mac: mac.toUpperCase() }
  } catch {
    // It went away, or is a plain file such as bonding_masters.
    return undefined
  }
}

/** Where /sys cannot be read, which Deno refuses without full permission. */
function macsOf(interfaces: Interfaces): string[] {
  const own = Object.entries(interfaces).filter(([name]) => !SKIPPED.test(name))
  const all = own.flatMap(([, addresses]) => addresses ?? []).filter(({ internal }) => !internal)
  return [...new Set(all.map(({ mac }) => mac.toUpperCase()).filter(isMac))]
}

function isMac(text: string): boolean {
  return /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(text) && text !== '00:00:00:00:00:00'
}

function joined(addresses: readonly string[]): string | undefined {
  return addresses.length === 0 ? undefined : addresses.join(' ')
}

function readInterfaces(read: () => Interfaces): Interfaces {
  try {
    return read()
  } catch {
    return {}
  }
}
