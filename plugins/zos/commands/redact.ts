import type { JsonNode } from '../json/node.ts'
import { RawJson } from '../json/print.ts'
import { readJson } from '../json/read.ts'

const HIDDEN = '***'

/** Members that hold secrets, in lower case (spec §4.5). */
const SECRET: ReadonlySet<string> = new Set([
  'wireguard_private_key',
  'hex_key',
  'hex_seed',
  'password',
  'key',
])

/**
 * JSON text of a workload's data or result without its secrets: keys, passwords, the values of an
 * environment, and users in URLs.
 *
 * @param text Valid JSON.
 */
export function redact(text: string): RawJson {
  return new RawJson(hide(readJson(text), text))
}

function hide(node: JsonNode, text: string): string {
  switch (node.kind) {
    case 'object': {
      const members = node.members.map(({ name, value }) => {
        const shown = SECRET.has(name.toLowerCase())
          ? JSON.stringify(HIDDEN)
          : name.toLowerCase() === 'env' && value.kind === 'object'
            ? environment(value)
            : hide(value, text)
        return `${JSON.stringify(name)}:${shown}`
      })
      return `{${members.join(',')}}`
    }
    case 'array':
      return `[${node.items.map((item) => hide(item, text)).join(',')}]`
    case 'string':
      return JSON.stringify(node.value.replace(/:\/\/[^/@\s]*@/, `://${HIDDEN}@`))
    default:
      return text.slice(node.start, node.end)
  }
}

function environment(value: Extract<JsonNode, { kind: 'object' }>): string {
  const members = value.members.map(({ name }) => `${JSON.stringify(name)}:"${HIDDEN}"`)
  return `{${members.join(',')}}`
}
