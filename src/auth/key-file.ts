import { readFileSync, statSync } from 'node:fs'
import * as v from 'valibot'
import { errnoOf } from '../errors.ts'
import { KEY_ID } from './key-token.ts'
import { SCOPE } from './scopes.ts'

/** Keys in one file. */
export const MAX_KEYS = 1000

/** Scopes of one key, and the length of each. */
export const MAX_SCOPES = 64
const MAX_SCOPE_LENGTH = 200

const Timestamp = v.pipe(
  v.string(),
  v.isoTimestamp(),
  v.check((text) => !Number.isNaN(Date.parse(text))),
)

/** What a name must look like; an id is none, so that `remove` takes either. */
export const KeyName = v.pipe(
  v.string(),
  v.regex(/^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}$/),
  v.check((name) => !KEY_ID.test(name)),
)

/** The scopes of a key, each as `src/auth/scopes.ts` wants it. */
export const KeyScopes = v.pipe(
  v.array(v.pipe(v.string(), v.maxLength(MAX_SCOPE_LENGTH), v.regex(SCOPE))),
  v.minLength(1),
  v.maxLength(MAX_SCOPES),
)

const StoredKey = v.strictObject({
  id: v.pipe(v.string(), v.regex(KEY_ID)),
  name: KeyName,
  sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
  scopes: KeyScopes,
  created: Timestamp,
  expires: v.optional(Timestamp),
})

const Document = v.strictObject({
  version: v.literal(1),
  keys: v.pipe(
    v.array(StoredKey),
    v.maxLength(MAX_KEYS),
    v.check((keys) => distinct(keys.map(({ id }) => id)), 'ids must differ'),
    v.check((keys) => distinct(keys.map(({ name }) => name)), 'names must differ'),
  ),
})

/** One key as the file holds it; times are RFC 3339. */
export type KeyRecord = v.InferOutput<typeof StoredKey>

/** `keys.json` cannot be read or does not hold keys. Says where, never what. */
export class KeyFileError extends Error {
  override readonly name = 'KeyFileError'
  readonly path: string

  constructor(path: string, why: string) {
    super(`Cannot read API keys from "${path}": ${why}`)
    this.path = path
  }
}

/** What changes whenever the file does: inode, size and times, or why there are none. */
export function fileIdentity(path: string): string {
  try {
    const { ino, size, mtimeMs, ctimeMs } = statSync(path)
    return `${ino}:${size}:${mtimeMs}:${ctimeMs}`
  } catch (error) {
    return errnoOf(error) ?? 'unknown'
  }
}

/**
 * The keys in a file; none when there is no file.
 *
 * @throws {KeyFileError} When it cannot be read, or anything in it is not as it must be.
 */
export function readKeyFile(path: string): KeyRecord[] {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw new KeyFileError(path, errnoOf(error) ?? 'it cannot be read')
  }
  return parseKeys(text, path)
}

/** @throws {KeyFileError} Naming the first wrong place by its path inside the document. */
export function parseKeys(text: string, path: string): KeyRecord[] {
  let document: unknown
  try {
    document = JSON.parse(text)
  } catch {
    // The parser's message quotes the text, and somebody may have pasted a token there.
    throw new KeyFileError(path, 'it is not JSON')
  }
  const result = v.safeParse(Document, document, { abortEarly: true })
  if (result.success) return result.output.keys
  const [issue] = result.issues
  const where = v.getDotPath(issue) ?? 'the document'
  const wrong = issue.expected === 'never' ? 'unknown' : `not ${issue.expected ?? 'as it must be'}`
  throw new KeyFileError(path, `${where} is ${wrong}`)
}

/** The file for these keys. */
export function renderKeys(keys: readonly KeyRecord[]): string {
  return `${JSON.stringify({ version: 1, keys }, null, 2)}\n`
}

function distinct(values: readonly string[]): boolean {
  return new Set(values).size === values.length
}
