import { EvidenceError } from '../../../../src/attest/evidence-error.ts'
import { ScaleReader } from '../../../../src/attest/scale.ts'
import { canonicalAddress, canonicalCidr } from '../../json/ip.ts'
import { type Contract, type ContractState, RegistryError, type Twin } from '../registry.ts'

/** Versions of a contract whose fields are those of §11.1. */
const CONTRACT_VERSIONS = { from: 1, to: 4 }

/** As above; a farm's first fields, which are all that is read, are the same in all of them. */
const FARM_VERSIONS = { from: 1, to: 4 }

/** Far above what the chain allows, so that a list cannot take all memory. */
const MAX_ENTITIES = 1024
const MAX_PUBLIC_IPS = 1024
const MAX_CONTRACTS = 65_536

/** A relay's list of hosts, a name, a description: longest that is taken, in bytes. */
const MAX_BYTES = 65_536

/**
 * `TfgridModule.Twins`.
 *
 * @param id The twin that was asked for.
 * @throws {RegistryError} `REGISTRY_INVALID`, `REGISTRY_VERSION`, as all in this file.
 */
export function decodeTwin(bytes: Uint8Array, id: number): Twin {
  return decode(bytes, `twin ${id}`, (fields) => {
    fields.same('id', fields.u32(), id)
    const publicKey = new Uint8Array(fields.take(32))
    const relay = fields.option(() => fields.text())
    fields.list(MAX_ENTITIES, () => [fields.u32(), fields.blob()])
    const pk = fields.option(() => fields.blob())
    fields.last()
    if (pk !== undefined && pk.length !== 33 && pk.length !== 0) {
      throw fields.wrong(`its pk has ${pk.length} bytes, not 33`)
    }
    return {
      id,
      // Either kind of key makes an account, and the chain does not say which it was.
      keyType: undefined,
      publicKey,
      relays: splitRelays(relay),
      pk: pk === undefined || pk.length === 0 ? undefined : new Uint8Array(pk),
    }
  })
}

/** Hosts of a twin's relays: the chain has one text for all, joined by `_`. */
export function splitRelays(joined: string | undefined): readonly string[] {
  return (joined ?? '').split('_').filter((host) => host !== '')
}

/**
 * `SmartContractModule.Contracts`.
 *
 * @param id The contract that was asked for.
 */
export function decodeContract(bytes: Uint8Array, id: bigint): Contract {
  return decode(bytes, `contract ${id}`, (fields) => {
    fields.version(CONTRACT_VERSIONS)
    const state = contractState(fields)
    fields.same('id', fields.u64(), id)
    const twinId = fields.u32()
    const data = contractData(fields)
    fields.option(() => fields.u64())
    fields.last()
    return { contractId: id, twinId, state, data }
  })
}

function contractState(fields: Fields): ContractState {
  const state = fields.u8()
  if (state === 0) return 'created'
  if (state === 1) {
    const cause = fields.u8()
    if (cause > 2) throw fields.unknown(`cause ${cause} of its end`)
    return 'deleted'
  }
  if (state !== 2) throw fields.unknown(`state ${state}`)
  fields.u64()
  return 'grace_period'
}

function contractData(fields: Fields): Contract['data'] {
  const type = fields.u8()
  if (type === 1) return { type: 'name', name: fields.text() }
  if (type === 2) return { type: 'rent', nodeId: fields.u32() }
  if (type !== 0) throw fields.unknown(`type ${type}`)
  const nodeId = fields.u32()
  // Hex digits in ASCII. Anything else is no hash of any deployment, so it needs no error here.
  const deploymentHash = Buffer.from(fields.take(32)).toString('latin1').toLowerCase()
  fields.blob()
  fields.u32()
  const publicIps = fields.list(MAX_PUBLIC_IPS, () => {
    const [ip, gateway] = [fields.text(), fields.text()]
    fields.u64()
    return { ip: fields.network('public IP', ip), gateway: fields.address('gateway', gateway) }
  })
  return { type: 'node', nodeId, deploymentHash, publicIps }
}

/** The twin of `TfgridModule.Farms`; what follows it is not read. */
export function decodeFarmTwin(bytes: Uint8Array, id: number): number {
  return decode(bytes, `farm ${id}`, (fields) => {
    fields.version(FARM_VERSIONS)
    fields.same('id', fields.u32(), id)
    fields.blob()
    return fields.u32()
  })
}

/** Farm and twin of `TfgridModule.Nodes`, which begins with them in every version so far. */
export function decodeNode(bytes: Uint8Array, id: number): { farmId: number; twinId: number } {
  return decode(bytes, `node ${id}`, (fields) => {
    fields.u32()
    fields.same('id', fields.u32(), id)
    return { farmId: fields.u32(), twinId: fields.u32() }
  })
}

/** `SmartContractModule.ActiveNodeContracts`. */
export function decodeContractIds(bytes: Uint8Array): readonly bigint[] {
  return decode(bytes, 'list of active contracts', (fields) => {
    const ids = fields.list(MAX_CONTRACTS, () => fields.u64())
    fields.last()
    return ids
  })
}

/** A number of the chain's, such as an id; 0 stands for none. */
export function decodeU32(bytes: Uint8Array, what: string): number {
  return decode(bytes, what, (fields) => {
    const value = fields.u32()
    fields.last()
    return value
  })
}

/** As {@link decodeU32}. */
export function decodeU64(bytes: Uint8Array, what: string): bigint {
  return decode(bytes, what, (fields) => {
    const value = fields.u64()
    fields.last()
    return value
  })
}

/** SCALE as the chain's records need it, with errors in their words. */
class Fields extends ScaleReader {
  readonly #what: string
  #version: number | undefined

  constructor(bytes: Uint8Array, what: string) {
    super(bytes, what)
    this.#what = what
  }

  version({ from, to }: { readonly from: number; readonly to: number }): void {
    const version = this.u32()
    if (version < from || version > to) throw this.#unknownVersion(`it is ${version}`)
    this.#version = version
  }

  blob(): Uint8Array {
    return this.#short(this.bytes())
  }

  override text(): string {
    const text = super.text()
    if (text.length > MAX_BYTES) throw this.wrong('a text is too long')
    return text
  }

  option<T>(read: () => T): T | undefined {
    const there = this.u8()
    if (there > 1)
      throw this.wrong(`${there} says neither that a value is there nor that it is not`)
    return there === 1 ? read() : undefined
  }

  same<T extends number | bigint>(name: string, found: T, asked: T): void {
    if (found !== asked) throw this.wrong(`its ${name} is ${found}`)
  }

  address(name: string, text: string): string {
    if (text === '') return ''
    const address = canonicalAddress(text)
    if (address === undefined) throw this.wrong(`${name} ${quoted(text)} is no IP address`)
    return address
  }

  network(name: string, text: string): string {
    const network = canonicalCidr(text)
    if (network === undefined) throw this.wrong(`${name} ${quoted(text)} is no address with prefix`)
    return network
  }

  /** What is left was added by a runtime that this code does not know. */
  last(): void {
    if (this.remaining === 0) return
    throw this.#unknownVersion(`${this.remaining} bytes follow the fields that are known`)
  }

  /** A variant that this code does not know. */
  unknown(what: string): RegistryError {
    return this.#unknownVersion(`${what} is not known`)
  }

  wrong(why: string): RegistryError {
    return new RegistryError('REGISTRY_INVALID', `Cannot read ${this.#what}: ${why}`)
  }

  #short(bytes: Uint8Array): Uint8Array {
    if (bytes.length > MAX_BYTES) throw this.wrong(`${bytes.length} bytes are too many`)
    return bytes
  }

  /** The reference's words come first: clients look for them. */
  #unknownVersion(why: string): RegistryError {
    const version = this.#version === undefined ? '' : ` (version ${this.#version})`
    return new RegistryError(
      'REGISTRY_VERSION',
      `unknown version: cannot read ${this.#what}${version}: ${why}; a newer cvmd may know it`,
    )
  }
}

function decode<T>(bytes: Uint8Array, what: string, read: (fields: Fields) => T): T {
  try {
    return read(new Fields(bytes, `${what} of the chain`))
  } catch (cause) {
    if (!(cause instanceof EvidenceError)) throw cause
    throw new RegistryError('REGISTRY_INVALID', cause.message, { cause })
  }
}

function quoted(text: string): string {
  return JSON.stringify(text.slice(0, 64))
}
