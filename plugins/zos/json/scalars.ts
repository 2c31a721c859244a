import { compactJson } from './compact.ts'
import { type Form, mismatch } from './form.ts'
import { decodeHex, encodeHex } from './hex.ts'
import { canonicalAddress, canonicalCidr } from './ip.ts'
import { clipped, JsonError } from './json-error.ts'
import type { JsonNumber } from './node.ts'
import { parseRfc3339 } from './timestamp.ts'

/** @param goType Of a named string type; others print as `string`. */
export function string(goType = 'string'): Form<string> {
  return {
    goType,
    zero: '',
    read(node, state, before) {
      if (node.kind === 'string') return node.value
      if (node.kind !== 'null') mismatch(state, goType, node.kind)
      return before
    },
  }
}

export const bool: Form<boolean> = {
  goType: 'bool',
  zero: false,
  read(node, state, before) {
    if (node.kind === 'bool') return node.value
    if (node.kind !== 'null') mismatch(state, 'bool', node.kind)
    return before
  },
}

export const u8 = small('uint8', 0xff)
export const u16 = small('uint16', 0xffff)
export const u32 = small('uint32', 0xffff_ffff)

const MAX_U64 = 0xffff_ffff_ffff_ffffn

/** @param goType `uint64`, or a name for it such as `uint`, `gridtypes.Unit`. */
export function u64(goType = 'uint64'): Form<bigint> {
  return integer(goType, (value) => value >= 0n && value <= MAX_U64)
}

/**
 * Seconds since 1970 as an integer or a date of RFC 3339.
 */
export const timestamp: Form<bigint> = {
  goType: 'gridtypes.Timestamp',
  zero: 0n,
  read(node, { source }) {
    if (node.kind === 'null') return 0n
    const value =
      node.kind === 'number'
        ? exactInteger(node)
        : node.kind === 'string'
          ? // As it stands: escapes are not taken there.
            parseRfc3339(source.slice(node.start + 1, node.end - 1))
          : undefined
    if (value === undefined || BigInt.asIntN(64, value) !== value) {
      throw new JsonError('unknown timestamp format, expecting a timestamp or an ISO-8601 date')
    }
    return value
  },
}

/** An address in canonical text. */
export const ip: Form<string> = textual('net.IP', (text) => {
  const canonical = text === '' ? '' : canonicalAddress(text)
  if (canonical === undefined) throw new JsonError(`invalid IP address: ${clipped(text)}`)
  return canonical
})

/** `address/bits` in canonical text that keeps the host part. */
export const cidr: Form<string> = leftByNull(
  textual('gridtypes.IPNet', (text) => {
    const canonical = text === '' ? '' : canonicalCidr(text)
    if (canonical === undefined) throw new JsonError(`invalid CIDR address: ${clipped(text)}`)
    return canonical
  }),
)

/** Bytes as hex; gives it in lower case. */
export function hex(goType: string): Form<string> {
  return textual(goType, (text) => encodeHex(decodeHex(text)))
}

/** The JSON text of any value, without white space between tokens; '' when there is none. */
export const raw: Form<string> = {
  goType: 'json.RawMessage',
  zero: '',
  read: (node, { source }) => compactJson(source.slice(node.start, node.end)),
}

function small(goType: string, max: number): Form<number> {
  const { read } = integer(goType, (value) => value >= 0n && value <= BigInt(max))
  return {
    goType,
    zero: 0,
    read: (node, state, before) => Number(read(node, state, BigInt(before))),
  }
}

function integer(goType: string, fits: (value: bigint) => boolean): Form<bigint> {
  return {
    goType,
    zero: 0n,
    read(node, state, before) {
      if (node.kind === 'null') return before
      if (node.kind !== 'number') {
        mismatch(state, goType, node.kind)
        return before
      }
      const value = exactInteger(node)
      // Go takes -0 for signed integers only.
      if (value !== undefined && fits(value) && node.text !== '-0') return value
      mismatch(state, goType, `number ${clipped(node.text)}`)
      return before
    },
  }
}

/** Undefined for fractions, exponents, and what has more digits than 64 bits. */
function exactInteger({ text }: JsonNumber): bigint | undefined {
  return /^-?\d{1,20}$/.test(text) ? BigInt(text) : undefined
}

/** Of Go's kinds, structs are left as they are by `null`, slices emptied. */
function leftByNull<T>(form: Form<T>): Form<T> {
  return {
    ...form,
    read: (node, state, before) => (node.kind === 'null' ? before : form.read(node, state, before)),
  }
}

/** What Go reads by `UnmarshalText`. */
function textual(goType: string, parse: (text: string) => string): Form<string> {
  return {
    goType,
    zero: '',
    read(node, state, before) {
      if (node.kind === 'string') return parse(node.value)
      if (node.kind === 'null') return ''
      mismatch(state, goType, node.kind)
      return before
    },
  }
}
