import { z } from 'zod'

/** Bytes as answers have them: lower-case hex without `0x`. */
export { toHex as hex } from '../../attest/hex.ts'

/**
 * A `bytes` field of a request (spec dstack §4): hex of any case, with or without a leading `0x`;
 * left out, no bytes.
 *
 * @param description What the bytes are, for the OpenAPI document.
 */
export function bytesField(description: string) {
  return requiredBytes(description).prefault('')
}

/** The same where leaving it out is a mistake. */
export function requiredBytes(description: string) {
  return z
    .string()
    .transform((text, context) => {
      const digits = /^0x/i.test(text) ? text.slice(2) : text
      const wrong = complaint(digits)
      if (wrong === undefined) return new Uint8Array(Buffer.from(digits, 'hex'))
      context.addIssue({ code: 'custom', message: wrong })
      return z.NEVER
    })
    .describe(`${description}; hex, with or without 0x`)
}

/** Bytes as the seed API's answers have them: base64 with padding, RFC 4648 §4. */
export function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
}

/** Why text is no hex, or undefined when it is. */
function complaint(digits: string): string | undefined {
  const wrong = /[^0-9a-f]/iu.exec(digits)
  if (wrong) return `"${wrong[0]}" at digit ${wrong.index + 1} is no hex digit`
  return digits.length % 2 === 1 ? `${digits.length} hex digits, an odd number` : undefined
}
