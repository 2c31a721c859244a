import { isHex } from '../../../src/attest/hex.ts'
import { canonicalAddress, canonicalCidr } from '../json/ip.ts'
import { clipped } from '../json/json-error.ts'
import type { JsonNode } from '../json/node.ts'
import { RegistryError } from './registry.ts'

const MAX_U32 = 0xffff_ffffn
const MAX_U64 = 0xffff_ffff_ffff_ffffn

/** A value of the registry's document and where it stands, for checks that say what is wrong where. */
export class DocumentValue {
  readonly #node: JsonNode | undefined
  readonly #path: string

  /** @param node Undefined where there is none. */
  constructor(node: JsonNode | undefined, path: string) {
    this.#node = node
    this.#path = path
  }

  /** Whether nothing is said: absent, or null. */
  get empty(): boolean {
    return this.#node === undefined || this.#node.kind === 'null'
  }

  /**
   * The members of an object. Unknown ones are refused, because a misspelt name would otherwise
   * silently mean nothing.
   *
   * @throws {RegistryError} `REGISTRY_INVALID` with the path, as all methods.
   */
  members<const Names extends readonly string[]>(
    names: Names,
  ): { readonly [Name in Names[number]]: DocumentValue } {
    if (this.#node?.kind !== 'object') throw this.wrong('must be an object')
    const found = new Map<string, JsonNode>()
    for (const { name, value } of this.#node.members) {
      if (!names.includes(name)) {
        throw this.wrong(`${quoted(name)} is not known here, only ${names.join(', ')}`)
      }
      if (found.has(name)) throw this.wrong(`${quoted(name)} comes twice`)
      found.set(name, value)
    }
    const prefix = this.#path === '' ? '' : `${this.#path}.`
    const entries = names.map((name) => [name, new DocumentValue(found.get(name), prefix + name)])
    return Object.fromEntries(entries)
  }

  /** The items of a list, which may be left out. */
  items(): readonly DocumentValue[] {
    if (this.empty) return []
    if (this.#node?.kind !== 'array') throw this.wrong('must be a list')
    return this.#node.items.map((item, at) => new DocumentValue(item, `${this.#path}[${at}]`))
  }

  /** An id from 1 to 2^32 - 1. */
  u32(): number {
    return Number(this.#integer(MAX_U32, '2^32 - 1'))
  }

  /** An id from 1 to 2^64 - 1, exactly. */
  u64(): bigint {
    return this.#integer(MAX_U64, '2^64 - 1')
  }

  text(): string {
    if (this.#node?.kind !== 'string') throw this.wrong('must be a text')
    return this.#node.value
  }

  oneOf<const Choices extends readonly string[]>(choices: Choices): Choices[number] {
    const found = this.#node?.kind === 'string' ? this.#node.value : undefined
    const choice = choices.find((one) => one === found)
    if (choice === undefined) throw this.wrong(`must be one of ${choices.join(', ')}`)
    return choice
  }

  /** So many bytes as hex in either case; in lower case. */
  hex(bytes: number): string {
    const text = this.#node?.kind === 'string' ? this.#node.value : ''
    if (text.length !== 2 * bytes || !isHex(text)) {
      throw this.wrong(`must be ${2 * bytes} hex digits`)
    }
    return text.toLowerCase()
  }

  /** An IP address in canonical text; '' where it is left out. */
  address(): string {
    if (this.empty || this.text() === '') return ''
    const address = canonicalAddress(this.text())
    if (address === undefined) throw this.wrong('must be an IP address')
    return address
  }

  /** An IP address with its prefix length, in canonical text. */
  network(): string {
    const network = canonicalCidr(this.text())
    if (network === undefined) throw this.wrong('must be an IP address with its prefix length')
    return network
  }

  wrong(why: string): RegistryError {
    const place = this.#path === '' ? 'the document' : this.#path
    return new RegistryError('REGISTRY_INVALID', `${place} ${why}${this.#found()}`)
  }

  #integer(most: bigint, name: string): bigint {
    const text = this.#node?.kind === 'number' ? this.#node.text : ''
    const value = /^[1-9]\d{0,19}$/.test(text) ? BigInt(text) : 0n
    if (value < 1n || value > most) throw this.wrong(`must be an integer from 1 to ${name}`)
    return value
  }

  #found(): string {
    const node = this.#node
    if (node === undefined) return ', it is missing'
    if (node.kind === 'number') return `, it is ${clipped(node.text)}`
    if (node.kind === 'string') return `, it is ${quoted(node.value)}`
    return node.kind === 'null' ? ', it is null' : ''
  }
}

function quoted(text: string): string {
  return JSON.stringify(clipped(text))
}
