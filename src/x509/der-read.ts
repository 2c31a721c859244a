/** Distinguished encoding rules (X.690), reading only: strict, bounded, without recursion. */

import { EvidenceError } from '../attest/evidence-error.ts'

/** One element; both views share memory with the input. */
export interface DerElement {
  readonly tag: number
  /** What the length octets cover. */
  readonly content: Uint8Array
  /** Tag, length and content: what a signature covers, and what names are compared by. */
  readonly whole: Uint8Array
}

/** Tags this project meets; `[n]` is 0xa0 | n when constructed and 0x80 | n when primitive. */
export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8String: 0x0c,
  printableString: 0x13,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  enumerated: 0x0a,
  sequence: 0x30,
  set: 0x31,
} as const

const MAX_OID_BYTES = 64

/** Text of strangers for a message: at most 64 characters, of ASCII alone. */
export const printable = (text: string): string => text.slice(0, 64).replace(/[^ -~]/g, '?')

/**
 * Reads the elements of one level, in order. Every method throws `EvidenceError` `DER_MALFORMED`
 * when the bytes are not what is asked for, in the shortest definite form, inside the input.
 */
export class DerReader {
  readonly #bytes: Uint8Array
  readonly #what: string
  #at = 0

  /** @param what What is being read, for messages: `certificate`. */
  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = bytes
    this.#what = what
  }

  /** Whether all has been read. */
  get done(): boolean {
    return this.#at === this.#bytes.length
  }

  /** The tag of the next element; undefined at the end. */
  get next(): number | undefined {
    return this.#bytes[this.#at]
  }

  /** The next element, which must have the given tag if one is given. */
  read(tag?: number): DerElement {
    const start = this.#at
    const found = this.#octet()
    if ((found & 0x1f) === 0x1f) throw this.malformed('a tag above 30')
    if (tag !== undefined && found !== tag) {
      throw this.malformed(`tag 0x${found.toString(16)} where 0x${tag.toString(16)} belongs`)
    }
    const length = this.#length()
    const end = this.#at + length
    if (end > this.#bytes.length) throw this.malformed(`a length of ${length} past the end`)
    const content = this.#bytes.subarray(this.#at, end)
    this.#at = end
    return { tag: found, content, whole: this.#bytes.subarray(start, end) }
  }

  /** The next element if it has this tag; nothing is read otherwise. */
  optional(tag: number): DerElement | undefined {
    return this.next === tag ? this.read(tag) : undefined
  }

  /** The next element, which must have this tag, and a reader for its content. */
  open(tag: number): { element: DerElement; content: DerReader } {
    const element = this.read(tag)
    return { element, content: new DerReader(element.content, this.#what) }
  }

  /** A reader for the content of the next element, which must have this tag. */
  enter(tag: number): DerReader {
    return this.open(tag).content
  }

  /** An object identifier, dotted. */
  oid(): string {
    const { content } = this.read(TAG.oid)
    if (content.length === 0 || content.length > MAX_OID_BYTES || (content.at(-1) ?? 0) >= 0x80) {
      throw this.malformed('an object identifier cut short, or too long')
    }
    const arcs: number[] = []
    let arc = 0
    let first = true
    for (const octet of content) {
      if (first && octet === 0x80) throw this.malformed('an object identifier with padding')
      arc = arc * 128 + (octet & 0x7f)
      first = octet < 0x80
      if (arc > Number.MAX_SAFE_INTEGER / 128) throw this.malformed('an object identifier too big')
      if (!first) continue
      // The first two arcs share a number: 40 * first + second, the first being 0, 1 or 2.
      if (arcs.length === 0) {
        const top = Math.min(Math.floor(arc / 40), 2)
        arcs.push(top, arc - 40 * top)
      } else arcs.push(arc)
      arc = 0
    }
    return arcs.join('.')
  }

  /** A non-negative integer's bytes, big endian, without the sign octet. */
  unsigned(): Uint8Array {
    const { content } = this.read(TAG.integer)
    const [top = 0x80, second = 0] = content
    if (top >= 0x80) throw this.malformed('an integer that is empty or negative')
    if (top !== 0 || content.length === 1) return content
    if (second < 0x80) throw this.malformed('an integer with padding')
    return content.subarray(1)
  }

  /** A non-negative integer of at most four bytes. */
  small(): number {
    const bytes = this.unsigned()
    if (bytes.length > 4) throw this.malformed(`an integer of ${bytes.length} bytes, at most 4`)
    return bytes.reduce((value, octet) => value * 256 + octet, 0)
  }

  /** A boolean that is there only when true, as DER leaves defaults out. */
  optionalTrue(): boolean {
    const element = this.optional(TAG.boolean)
    if (element === undefined) return false
    if (element.content.length !== 1 || element.content[0] !== 0xff) {
      throw this.malformed('a boolean that is not TRUE where FALSE is the default')
    }
    return true
  }

  /** A bit string whose bits fill whole bytes, such as a key or a signature. */
  wholeBits(): Uint8Array {
    const { content } = this.read(TAG.bitString)
    if (content[0] !== 0) throw this.malformed('a bit string that does not fill its bytes')
    return content.subarray(1)
  }

  /** UTCTime or GeneralizedTime to the second, in UTC (RFC 5280 §4.1.2.5); milliseconds. */
  time(): number {
    const { tag, content } = this.read()
    const text = Buffer.from(content).toString('latin1')
    const short = tag === TAG.utcTime
    if (!short && tag !== TAG.generalizedTime) throw this.malformed('no time where one belongs')
    if (!(short ? /^\d{12}Z$/ : /^\d{14}Z$/).test(text))
      throw this.malformed(`time "${printable(text)}"`)
    // Two digits of a year stand for 1950 to 2049.
    const full = short ? (text < '5' ? '20' : '19') + text : text
    const iso = full.replace(/^(....)(..)(..)(..)(..)(..)Z$/, '$1-$2-$3T$4:$5:$6.000Z')
    const ms = Date.parse(iso)
    if (Number.isNaN(ms) || new Date(ms).toISOString() !== iso) {
      throw this.malformed(`time "${printable(text)}"`)
    }
    return ms
  }

  /** Throws unless all has been read. */
  end(): void {
    if (!this.done) throw this.malformed(`${this.#bytes.length - this.#at} bytes too many`)
  }

  /** The error for anything else found wrong at this level. */
  malformed(found: string): EvidenceError {
    return new EvidenceError('DER_MALFORMED', `Cannot read ${this.#what}: it holds ${found}`)
  }

  #octet(): number {
    const octet = this.#bytes[this.#at]
    if (octet === undefined) throw this.malformed('less than it announces')
    this.#at += 1
    return octet
  }

  #length(): number {
    const first = this.#octet()
    if (first < 0x80) return first
    const count = first & 0x7f
    if (count === 0 || count > 4)
      throw this.malformed(`a length of ${count} octets, 1 to 4 allowed`)
    let length = 0
    for (let i = 0; i < count; i++) length = length * 256 + this.#octet()
    if (length < 0x80 || length < 256 ** (count - 1)) throw this.malformed('a length with padding')
    return length
  }
}
