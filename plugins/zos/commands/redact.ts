import { folded } from '../json/compound.ts'
import { JsonError } from '../json/json-error.ts'
import type { JsonNode } from '../json/node.ts'
import { RawJson } from '../json/print.ts'
import { readJson } from '../json/read.ts'

const HIDDEN = '***'

/** How often a text may be JSON in a text of JSON. */
const MAX_NESTING = 3

/** Members that hold secrets, in lower case (spec §4.5), and what clients keep in metadata. */
const SECRET: ReadonlySet<string> = new Set([
  'wireguard_private_key',
  'private_key',
  'hex_key',
  'hex_seed',
  'password',
  'key',
])

/**
 * JSON text of a workload's data or result without its secrets: keys, passwords, the values of an
 * environment, users and queries of URLs; also in texts that are JSON themselves.
 *
 * @param text Valid JSON.
 */
export function redact(text: string): RawJson {
  return new RawJson(hide(readJson(text), text, 0))
}

/** The same of a free text, such as metadata, in which clients keep the keys of their users. */
export function redactText(text: string): string {
  return shown(text, 0)
}

function hide(node: JsonNode, text: string, depth: number): string {
  switch (node.kind) {
    case 'object': {
      const members = node.members.map(({ name, value }) => {
        // As the reader of workloads takes names: another spelling is no way past.
        const known = folded(name)
        const safe = SECRET.has(known)
          ? JSON.stringify(HIDDEN)
          : known === 'env' && value.kind === 'object'
            ? environment(value)
            : hide(value, text, depth)
        return `${JSON.stringify(name)}:${safe}`
      })
      return `{${members.join(',')}}`
    }
    case 'array':
      return `[${node.items.map((item) => hide(item, text, depth)).join(',')}]`
    case 'string':
      return JSON.stringify(shown(node.value, depth))
    default:
      return text.slice(node.start, node.end)
  }
}

function environment(value: Extract<JsonNode, { kind: 'object' }>): string {
  const members = value.members.map(({ name }) => `${JSON.stringify(name)}:"${HIDDEN}"`)
  return `{${members.join(',')}}`
}

function shown(text: string, depth: number): string {
  if (/^\s*[[{]/.test(text)) {
    try {
      const node = readJson(text)
      return depth < MAX_NESTING ? hide(node, text, depth + 1) : HIDDEN
    } catch (error) {
      if (!(error instanceof JsonError)) throw error
      // Broken, so nobody can say what in it is a secret.
      if (/^\s*\{\s*"/.test(text)) return HIDDEN
    }
  }
  return text.split(/(\s+)/).map(withoutUser).join('')
}

/** A word; of an address in it neither users nor what follows its path, where tokens are. */
function withoutUser(word: string): string {
  const scheme = word.indexOf('://')
  if (scheme < 0) return word
  const after = word.slice(scheme).search(/[?#]/)
  const end = after < 0 ? word.length : scheme + after
  const [first, ...addresses] = word.slice(0, end).split('://')
  const safe = addresses.map((address) => {
    const slash = address.indexOf('/')
    const host = slash < 0 ? address : address.slice(0, slash)
    // A password may have an @, so the last one ends it.
    const at = host.lastIndexOf('@')
    return at < 0 ? address : `${HIDDEN}${address.slice(at)}`
  })
  const rest = after < 0 ? '' : `${word[end]}${HIDDEN}`
  return `${[first, ...safe].join('://')}${rest}`
}
