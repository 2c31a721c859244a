import { ZosError } from '../zos-error.ts'
import { dmiTypeName } from './dmi-types.ts'
import type { Dmi, DmiSection, DmiSubsection } from './facts.ts'

/** Who decoded it; the reference has a name of its own here, `0-core Go dmi decoder v0.2.0`. */
export const DMI_DECODER = 'cvmd dmi decoder v1'

/** Longest text that is parsed; the largest servers have some 200 KiB. */
export const MAX_DMI_CHARACTERS = 1024 * 1024

type Property = { value: string; items?: string[] }

/**
 * Parses the output of dmidecode(8) (spec §9.4) in linear time: sections as the text has them, with
 * titles and indented properties, in its order.
 *
 * @param strict Fail on what is not understood, as the reference does; otherwise a broken property
 *   is left out together with its items, and so is a section without a number.
 * @throws {ZosError} `failed`: not understood, or over 1 Mi characters.
 */
export function parseDmi(text: string, { strict = false } = {}): Dmi {
  if (text.length > MAX_DMI_CHARACTERS) {
    throw failed(`Cannot decode DMI: it has over ${MAX_DMI_CHARACTERS} characters`)
  }
  const lines = text.split('\n')
  const { aggregator, start } = readAggregator(lines)
  const sections: DmiSection[] = []
  for (let at = start; at < lines.length; at++) {
    if (!lines[at]?.startsWith('Handle')) continue
    const reader = new SectionReader(lines, at, strict)
    const section = reader.read()
    if (section) sections.push(section)
    at = reader.at
  }
  return { tooling: { aggregator, decoder: DMI_DECODER }, sections }
}

function readAggregator(lines: readonly string[]): { aggregator: string; start: number } {
  const found = lines.findIndex((line) => line.startsWith('Handle') || line.startsWith('#'))
  const line = lines[found] ?? ''
  if (!line.startsWith('#')) {
    return { aggregator: 'unknown', start: found < 0 ? lines.length : found }
  }
  return { aggregator: line.slice(1).trim() || 'unknown', start: found + 1 }
}

class SectionReader {
  readonly #lines: readonly string[]
  readonly #strict: boolean
  /** Of the line that is read next. */
  at: number

  constructor(lines: readonly string[], at: number, strict: boolean) {
    this.#lines = lines
    this.#strict = strict
    this.at = at
  }

  /** Reads up to a blank line or the end; undefined where it is no section. */
  read(): DmiSection | undefined {
    const handleline = this.#lines[this.at] ?? ''
    const type = this.#type(handleline)
    this.at++
    const subsections: DmiSubsection[] = []
    let title = this.#lines[this.at++] ?? ''
    let properties = new Map<string, Property>()
    const close = () => void subsections.push(subsection(title, properties))
    for (; this.at < this.#lines.length; this.at++) {
      const line = this.#lines[this.at] ?? ''
      if (line.trim() === '') break
      if (indent(line) === 0) {
        close()
        title = line
        properties = new Map()
      } else {
        this.#property(line, properties)
      }
    }
    close()
    if (type === undefined) return undefined
    return { handleline, typestr: dmiTypeName(type), typenum: type, subsections }
  }

  #type(handleline: string): number | undefined {
    if (this.#strict && this.at + 2 > this.#lines.length) throw failed('invalid section size')
    const type = Number(/DMI type ([0-9]+)/.exec(handleline)?.[1] ?? Number.NaN)
    if (Number.isSafeInteger(type)) return type
    if (this.#strict) throw failed(`couldn't find dmitype in handleline ${handleline}`)
    return undefined
  }

  /** Reads the property of this line, and the items below it. */
  #property(line: string, properties: Map<string, Property>): void {
    const colon = line.indexOf(':')
    if (colon < 0 && this.#strict) {
      throw failed(`couldn't find key value pair on the line ${line}`)
    }
    const property: Property = { value: line.slice(colon + 1).trim() }
    const depth = indent(this.#lines[this.at + 1] ?? '')
    if (depth > indent(line)) property.items = this.#items(depth)
    if (colon < 0) return
    const key = line.slice(0, colon).trim()
    // A repeated one moves to its later place, as it is the later one that counts.
    properties.delete(key)
    properties.set(key, property)
  }

  #items(depth: number): string[] {
    const items: string[] = []
    for (; indent(this.#lines[this.at + 1] ?? '') >= depth; this.at++) {
      items.push((this.#lines[this.at + 1] ?? '').trim())
    }
    return items
  }
}

function subsection(title: string, properties: ReadonlyMap<string, Property>): DmiSubsection {
  return properties.size === 0 ? { title } : { title, properties: Object.fromEntries(properties) }
}

/** Characters of white space a line starts with; 0 of one that has nothing else. */
function indent(line: string): number {
  return Math.max(0, line.search(/\S/))
}

function failed(message: string): ZosError {
  return new ZosError('failed', message)
}
