/** More than this is a mistake of the test. */
const MOST_BYTES = 256 * 1024 * 1024

/** Everything that came from somewhere, by connection, so that it can be searched in the end. */
export class Heard {
  readonly #streams: Uint8Array[][] = []
  #bytes = 0

  get bytes(): number {
    return this.#bytes
  }

  /** Remembers what comes on one connection, whose parts belong together. */
  stream(): (data: Uint8Array) => void {
    const parts: Uint8Array[] = []
    this.#streams.push(parts)
    return (data) => {
      this.#bytes += data.length
      if (this.#bytes > MOST_BYTES) throw new Error(`more than ${MOST_BYTES} bytes came`)
      parts.push(new Uint8Array(data))
    }
  }

  /** Remembers text, such as a log. */
  text(text: string): void {
    this.stream()(Buffer.from(text))
  }

  /** Names of the secrets that are in it, each with the form it has there. */
  traces(secrets: Readonly<Record<string, Uint8Array>>): string[] {
    const found = new Set<string>()
    for (const parts of this.#streams) {
      const text = Buffer.concat(parts).toString('latin1')
      // PEM has lines, and JSON writes their ends as two characters.
      const joined = text.replace(/\\[nr]|\s/g, '')
      for (const [name, secret] of Object.entries(secrets)) {
        for (const [form, trace, where] of tracesOf(secret)) {
          if ((where === 'raw' ? text : joined).includes(trace)) found.add(`${name} ${form}`)
        }
      }
    }
    return [...found].sort()
  }
}

/** What a secret looks like in the forms that bytes are written in. */
export function tracesOf(
  secret: Uint8Array,
): readonly (readonly [form: string, trace: string, where: 'raw' | 'joined'])[] {
  const bytes = Buffer.from(secret)
  const hex = bytes.toString('hex')
  return [
    ['raw', bytes.toString('latin1'), 'raw'],
    ['hex', hex, 'joined'],
    ['hex', hex.toUpperCase(), 'joined'],
    ['numbers', bytes.join(','), 'joined'],
    ...[0, 1, 2].flatMap((offset) => {
      const base64 = base64At(bytes, offset)
      const url = base64.replaceAll('+', '-').replaceAll('/', '_')
      return [['base64', base64, 'joined'] as const, ['base64', url, 'joined'] as const]
    }),
  ]
}

/** The characters that stand for these bytes alone, where so many others go before them. */
function base64At(bytes: Uint8Array, offset: number): string {
  const text = Buffer.concat([Buffer.alloc(offset), bytes]).toString('base64')
  const from = Math.ceil((offset * 8) / 6)
  const to = Math.floor(((offset + bytes.length) * 8) / 6)
  return text.slice(from, to)
}
