/** Longest pause that a server can ask for. */
const MAX_RETRY_AFTER_MS = 3_600_000

/**
 * The text of an answer.
 *
 * @throws {RangeError} When it has more bytes than allowed.
 * @throws {TypeError} When it is no UTF-8.
 */
export async function readBody(response: Response, maxBytes: number): Promise<string> {
  const chunks: Uint8Array[] = []
  let size = 0
  const reader = response.body?.getReader()
  for (;;) {
    const { done, value } = (await reader?.read()) ?? { done: true }
    if (done || value === undefined) break
    size += value.length
    if (size > maxBytes) {
      await reader?.cancel()
      throw new RangeError(`the answer has more than ${maxBytes} bytes`)
    }
    chunks.push(value)
  }
  return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks))
}

/**
 * Reads `Retry-After` (RFC 9110 §10.2.3), seconds or a date.
 *
 * @returns Milliseconds, at most an hour; undefined for none or what is neither.
 */
export function retryAfterMs(header: string | null, now: number): number | undefined {
  if (header === null) return undefined
  const text = header.trim()
  const ms = /^[0-9]{1,10}$/.test(text) ? Number(text) * 1000 : Date.parse(text) - now
  if (Number.isNaN(ms) || !/[0-9]/.test(text)) return undefined
  return Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS)
}
