import { type DerReader, TAG } from './der-read.ts'

/** A distinguished name (RFC 5280 §4.1.2.4). */
export interface Name {
  /** The complete element; two names are the same when these bytes are. */
  readonly der: Uint8Array
  /** Undefined when there is none, more than one, or one in an outdated text type. */
  readonly commonName: string | undefined
}

const COMMON_NAME = '2.5.4.3'
const TEXT_TAGS: readonly number[] = [TAG.utf8String, TAG.printableString, TAG.ia5String]

/**
 * Reads the name that comes next.
 *
 * @throws {EvidenceError} `DER_MALFORMED`.
 */
export function readName(reader: DerReader): Name {
  const { element, content } = reader.open(TAG.sequence)
  const found: (string | undefined)[] = []
  while (!content.done) {
    const attributes = content.enter(TAG.set)
    while (!attributes.done) {
      const attribute = attributes.enter(TAG.sequence)
      const oid = attribute.oid()
      const { tag, content: text } = attribute.read()
      attribute.end()
      if (oid === COMMON_NAME) {
        found.push(TEXT_TAGS.includes(tag) ? Buffer.from(text).toString('utf8') : undefined)
      }
    }
  }
  return { der: element.whole, commonName: found.length === 1 ? found[0] : undefined }
}
