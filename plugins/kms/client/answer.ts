import { EvidenceError } from '../../../src/attest/evidence-error.ts'
import { KmsError } from './connection.ts'

/** What came back for a call. */
export interface Reply {
  readonly status: number
  /** Its `Content-Encoding`. */
  readonly encoding: string | undefined
  /** Overwritten when they are read, as there may be keys in them. */
  readonly bytes: Uint8Array
}

/** Longest text of a KMS that an error repeats, in characters. */
const MAX_TEXT = 512

/** Codes have this form, and nobody's text is taken for one. */
const CODE = /^[A-Z][A-Z0-9_]{0,63}$/

/**
 * The members of an answer (spec dstack §4). A message without members is `null` or empty.
 *
 * @param method As errors name it.
 * @throws {KmsError} `KMS_REFUSED` for an error of the KMS, `KMS_MALFORMED` for what is no answer.
 */
export function readAnswer(
  url: string,
  method: string,
  { status, encoding, bytes }: Reply,
): Readonly<Record<string, unknown>> {
  const malformed = (why: string) =>
    new KmsError('KMS_MALFORMED', `Cannot read what KMS ${url} answers to ${method}: ${why}`)
  // Nobody asked for it, and what is small may inflate to anything.
  if (encoding !== undefined && encoding !== 'identity') throw malformed('it is encoded')
  const found = jsonOf(bytes)
  const members = membersOf(found)
  const { error, code } = members ?? {}
  if (typeof error === 'string') {
    throw new KmsError('KMS_REFUSED', `KMS ${url} refuses ${method}: ${oneLine(error)}`, {
      refusal: typeof code === 'string' && CODE.test(code) ? code : undefined,
    })
  }
  if (status !== 200) throw malformed(`its status is ${status} and it has no error`)
  if (!members) throw malformed('it is no JSON object')
  return members
}

/**
 * A member that is text.
 *
 * @param most Longest that is taken, in characters.
 * @throws {EvidenceError} `ANSWER_MALFORMED`.
 */
export function textOf(
  answer: Readonly<Record<string, unknown>>,
  name: string,
  most: number,
): string {
  const value = answer[name]
  if (typeof value === 'string' && value !== '' && value.length <= most) return value
  throw new EvidenceError('ANSWER_MALFORMED', `its ${name} is no text of 1 to ${most} characters`)
}

/** Null where there is nothing; undefined for what is no JSON. */
function jsonOf(bytes: Uint8Array): unknown {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    return text.trim() === '' ? null : JSON.parse(text)
  } catch {
    return undefined
  } finally {
    bytes.fill(0)
  }
}

function membersOf(value: unknown): Readonly<Record<string, unknown>> | undefined {
  if (value === null) return {}
  if (typeof value !== 'object' || Array.isArray(value)) return undefined
  return value as Readonly<Record<string, unknown>>
}

function oneLine(text: string): string {
  return text
    .slice(0, MAX_TEXT)
    .replace(/[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]+/gu, ' ')
    .trim()
}
