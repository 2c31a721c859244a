import {
  cidr,
  type InterfaceAddresses,
  type Interfaces,
  isGlobal,
  isPublic6,
  overlayOf,
  readAddresses,
} from './addresses.ts'
import { defaultInterface } from './default-route.ts'
import type { NodeFacts } from './facts.ts'
import type { HostFiles } from './host-files.ts'
import { looksVirtual, type Nic, readNics } from './nics.ts'
import type { Notes } from './notes.ts'

/** What clients call the interface by which the node is managed, whatever its name here. */
export const MANAGEMENT = 'zos'

export interface NetworkOptions {
  readonly files: HostFiles
  readonly notes: Notes
  /** `os.networkInterfaces`. */
  readonly interfaces: () => Interfaces
}

/** Interfaces of the machine and what they are for. Nothing here throws. */
export class HostNetwork {
  readonly #options: NetworkOptions

  constructor(options: NetworkOptions) {
    this.#options = options
  }

  /** Addresses for everybody: `zos`, and `ygg` and `mycelium` where there are such (spec §9.1). */
  async interfaces(): Promise<Record<string, readonly string[]>> {
    const all = this.#addresses()
    const management = await this.#managementOf(all)
    const result: Record<string, string[]> = { [MANAGEMENT]: [] }
    for (const { name, addresses } of all) {
      for (const address of addresses) {
        const key = overlayOf(address) ?? (name === management ? MANAGEMENT : undefined)
        if (key === undefined || !isGlobal(address)) continue
        result[key] ??= []
        result[key].push(address.ip)
      }
    }
    return result
  }

  /** Whether any interface has an address of the IPv6 internet. */
  hasIpv6(): boolean {
    return this.#addresses().some(({ addresses }) => addresses.some(({ ip }) => isPublic6(ip)))
  }

  /** The management interface, and every NIC by its own name (spec §9.2). */
  async adminInterfaces(): Promise<Awaited<ReturnType<NodeFacts['adminInterfaces']>>> {
    const all = this.#addresses()
    const nics = (await this.nics()).filter(({ physical }) => physical)
    const management = await this.#managementOf(all)
    const entry = (name: string, mac = '') => {
      const found = all.find((one) => one.name === name)
      const ips = found?.addresses.filter(isGlobal).map(cidr) ?? []
      return { ips: ips.length === 0 ? null : ips, mac: mac || (found?.mac ?? '') }
    }
    const named = nics.map(({ name, mac }) => [name, entry(name, mac)] as const)
    const first = management === undefined ? [] : [[MANAGEMENT, entry(management)] as const]
    return Object.fromEntries([...named, ...first])
  }

  /** Every interface; where the kernel may not be asked, those with addresses, judged by name. */
  async nics(): Promise<readonly Nic[]> {
    const nics = await readNics(this.#options.files, 'NICs are told from others by their names')
    return (
      nics ??
      this.#addresses()
        .filter(({ internal }) => !internal)
        .map(guessed)
    )
  }

  /** Name of the interface clients know as `zos`; undefined when there is none. */
  management(): Promise<string | undefined> {
    return this.#managementOf(this.#addresses())
  }

  async #managementOf(all: readonly InterfaceAddresses[]): Promise<string | undefined> {
    // A node of the reference has a bridge of this name.
    if (all.some(({ name }) => name === MANAGEMENT)) return MANAGEMENT
    const { files, notes } = this.#options
    const name = await defaultInterface(files)
    if (name !== undefined) return name
    const other = all.find(
      (one) => !one.internal && !looksVirtual(one.name) && one.addresses.some(isGlobal),
    )
    notes.once(
      'management',
      other === undefined
        ? 'No interface is managed as "zos": there is no default route'
        : `"${other.name}" is taken for the interface "zos": no default route can be read`,
    )
    return other?.name
  }

  #addresses(): readonly InterfaceAddresses[] {
    return readAddresses(this.#options.interfaces, this.#options.notes)
  }
}

function guessed({ name, mac }: InterfaceAddresses): Nic {
  return { name, physical: !looksVirtual(name), enslaved: false, mac }
}
