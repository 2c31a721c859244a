/** A proxy as redsocks.conf says it; every field may be missing. */
export interface ProxySettings {
  /** `socks4`, `socks5`, `http-connect` or `http-relay`; another word is kept as it is. */
  readonly type?: string
  readonly ip?: string
  /** A number, unless the file has something else. */
  readonly port?: number | string
  readonly login?: string
  readonly password?: string
  /** Where DNS queries are sent over TCP: `ADDR:PORT`. */
  readonly dns?: string
}

/** Fields of the block `redsocks`, in the order they are written. */
export const PROXY_FIELDS = ['type', 'ip', 'port', 'login', 'password'] as const

const QUOTED: readonly string[] = ['login', 'password']

const MAX_VALUE = 255

const BASE = [
  ['log_debug', 'off'],
  ['log_info', 'on'],
  ['log', 'stderr'],
  ['daemon', 'off'],
  ['redirector', 'iptables'],
] as const

/** Where redsocks itself listens. */
const LOCAL = [
  ['local_ip', '127.0.0.1'],
  ['local_port', '12345'],
] as const

const LOCAL_DNS = [
  ['local_ip', '127.0.0.1'],
  ['local_port', '53'],
] as const

/** How a block begins. Bounded and from the start of a word, so that no text takes long. */
const BLOCK = /\b(\w{1,64})\s{0,64}\{/g

/** Whether the file can hold a value: there is no escape in it (spec §20.3). */
export function canHold(field: (typeof PROXY_FIELDS)[number], value: string): boolean {
  if (value.length > MAX_VALUE) return false
  const allowed = QUOTED.includes(field) ? /^[^\p{Cc}"]*$/u : /^[^\p{Cc}\s"';{}]+$/u
  return allowed.test(value)
}

/** Whether a text is `ADDR:PORT`, with a port from 1 to 65535. */
export function isDnsAddress(text: string): boolean {
  const [, port] = /^[A-Za-z0-9][A-Za-z0-9.-]{0,252}:([0-9]{1,5})$/.exec(text) ?? []
  return port !== undefined && Number(port) >= 1 && Number(port) <= 65_535
}

/** The file for a proxy, byte for byte as balena's supervisor writes it (spec §20.3). */
export function renderRedsocks(settings: ProxySettings): string {
  const own = PROXY_FIELDS.flatMap((field) => {
    const value = settings[field]
    if (value === undefined) return []
    return [[field, QUOTED.includes(field) ? `"${value}"` : String(value)] as const]
  })
  const blocks = [block('base', BASE), block('redsocks', [...own, ...LOCAL])]
  if (settings.dns !== undefined) {
    const colon = settings.dns.lastIndexOf(':')
    const remote = [
      ['remote_ip', settings.dns.slice(0, colon)],
      ['remote_port', settings.dns.slice(colon + 1)],
    ] as const
    blocks.push(block('dnsu2t', [...remote, ...LOCAL_DNS]))
  }
  return blocks.join('\n')
}

/** Reads such a file, skipping what it does not know; never throws (spec §20.3). */
export function parseRedsocks(text: string): ProxySettings {
  const blocks = readBlocks(text)
  const settings: Record<string, string | number> = {}
  for (const field of PROXY_FIELDS) {
    const value = blocks.get('redsocks')?.get(field)
    // Else it could not be written again.
    if (value === undefined || !canHold(field, value)) continue
    settings[field] = field === 'port' && /^[0-9]{1,5}$/.test(value) ? Number(value) : value
  }
  const dns = blocks.get('dnsu2t')
  const [ip, port] = [dns?.get('remote_ip'), dns?.get('remote_port')]
  if (ip !== undefined && port !== undefined && isDnsAddress(`${ip}:${port}`)) {
    settings.dns = `${ip}:${port}`
  }
  return settings
}

function block(name: string, lines: readonly (readonly [string, string])[]): string {
  return `${name} {\n${lines.map(([key, value]) => `\t${key} = ${value};\n`).join('')}}\n`
}

/** Block by name, value by key; of two of one name the first counts, and the last of two keys. */
function readBlocks(text: string): Map<string, Map<string, string>> {
  const blocks = new Map<string, Map<string, string>>()
  const begin = new RegExp(BLOCK)
  for (let found = begin.exec(text); found; found = begin.exec(text)) {
    const { values, end } = readBlock(text, begin.lastIndex)
    const name = found[1] as string
    if (!blocks.has(name)) blocks.set(name, values)
    begin.lastIndex = end
  }
  return blocks
}

/** Statements up to the closing brace; each ends at a `;` or a line's end, but not in quotes. */
function readBlock(text: string, from: number): { values: Map<string, string>; end: number } {
  const values = new Map<string, string>()
  let start = from
  let quoted = false
  const take = (end: number) => {
    const [, key, value] = /^\s*(\w+)\s*=\s*(\S.*)$/.exec(text.slice(start, end)) ?? []
    if (key !== undefined && value !== undefined) values.set(key, unquoted(value.trimEnd()))
    start = end + 1
    quoted = false
  }
  for (let at = from; at < text.length; at++) {
    const c = text[at]
    if (c === '"') quoted = !quoted
    if (c === '\n' || (!quoted && (c === ';' || c === '}'))) {
      const closing = c === '}'
      take(at)
      if (closing) return { values, end: at + 1 }
    }
  }
  take(text.length)
  return { values, end: text.length }
}

function unquoted(value: string): string {
  return /^"([^"]*)"$/.exec(value)?.[1] ?? value
}
