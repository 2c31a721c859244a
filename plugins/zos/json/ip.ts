/*
 * Addresses as Go's `net` package reads and prints them.
 */

const MAX_TEXT = 45

/**
 * @returns 4 or 16 bytes; an IPv4 address within IPv6 (`::ffff:10.1.2.3`) gives 4. Undefined for what
 * is none, which includes zones and leading zeros.
 */
export function parseAddress(text: string): Uint8Array | undefined {
  if (text.length > MAX_TEXT) return undefined
  if (!text.includes(':')) return parseV4(text)
  const bytes = parseV6(text)
  if (bytes === undefined) return undefined
  return isMapped(bytes) ? bytes.slice(12) : bytes
}

/** Canonical text: RFC 5952 for IPv6. */
export function printAddress(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.')
  const groups = Array.from({ length: 8 }, (_, i) =>
    (((bytes[2 * i] ?? 0) << 8) | (bytes[2 * i + 1] ?? 0)).toString(16),
  )
  const { start, length } = longestZeros(groups)
  if (length < 2) return groups.join(':')
  return `${groups.slice(0, start).join(':')}::${groups.slice(start + length).join(':')}`
}

/** Canonical text of an address; undefined for what is none. */
export function canonicalAddress(text: string): string | undefined {
  const bytes = parseAddress(text)
  return bytes && printAddress(bytes)
}

/** Canonical text of `address/bits` that keeps the host part; undefined for what is none. */
export function canonicalCidr(text: string): string | undefined {
  const [, address = '', digits = ''] = /^([^/]*)\/(\d{1,9})$/.exec(text) ?? []
  const bytes = parseAddress(address)
  if (bytes === undefined || digits === '') return undefined
  const bits = Number(digits)
  if (bits > (address.includes(':') ? 128 : 32)) return undefined
  const mapped = bytes.length === 4 && address.includes(':')
  return `${printAddress(bytes)}/${mapped ? Math.max(0, bits - 96) : bits}`
}

export function isLoopback(bytes: Uint8Array): boolean {
  if (bytes.length === 4) return bytes[0] === 127
  return bytes.every((byte, i) => byte === (i === 15 ? 1 : 0))
}

function parseV4(text: string): Uint8Array | undefined {
  const parts = text.split('.')
  const valid = parts.every((part) => /^(?:0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255)
  return parts.length === 4 && valid ? Uint8Array.from(parts, Number) : undefined
}

function parseV6(text: string): Uint8Array | undefined {
  const halves = text.split('::')
  if (halves.length > 2) return undefined
  const [head, tail] = halves.map((half, i) => readGroups(half, i === halves.length - 1))
  if (head === undefined) return undefined
  if (halves.length === 1) return head.length === 16 ? Uint8Array.from(head) : undefined
  // What is left out is at least one group.
  if (tail === undefined || head.length + tail.length > 14) return undefined
  const bytes = new Uint8Array(16)
  bytes.set(head)
  bytes.set(tail, 16 - tail.length)
  return bytes
}

/** Bytes of groups between colons; the last may be an IPv4 address where the text ends. */
function readGroups(text: string, atEnd: boolean): number[] | undefined {
  if (text === '') return []
  const groups = text.split(':')
  const bytes: number[] = []
  for (const [i, group] of groups.entries()) {
    if (/^[0-9a-fA-F]{1,4}$/.test(group)) {
      const value = Number.parseInt(group, 16)
      bytes.push(value >> 8, value & 0xff)
      continue
    }
    const v4 = atEnd && i === groups.length - 1 ? parseV4(group) : undefined
    if (v4 === undefined) return undefined
    bytes.push(...v4)
  }
  return bytes
}

function isMapped(bytes: Uint8Array): boolean {
  return bytes.subarray(0, 12).every((byte, i) => byte === (i < 10 ? 0 : 0xff))
}

function longestZeros(groups: readonly string[]): { start: number; length: number } {
  let best = { start: 0, length: 0 }
  for (let start = 0; start < groups.length; start++) {
    let end = start
    while (groups[end] === '0') end++
    if (end - start > best.length) best = { start, length: end - start }
  }
  return best
}
