import type { MiddlewareHandler } from 'hono'

const MAX_BYTES = 8 * 1024 * 1024
const MAX_MS = 1000

/**
 * Reads on, within limits, when a request failed before its body was read. Clients that send all
 * before they listen would otherwise meet a closed connection instead of the answer. Neither
 * `Connection: close` nor cancelling the body would do: on Node, Bun and Deno the reset they cause
 * overtakes the answer (measured). What is left after that is the server's to cut.
 */
export const skipRest: MiddlewareHandler = async (c, next) => {
  await next()
  if (c.error) await skip(c.req.raw.body)
}

async function skip(body: ReadableStream<Uint8Array> | null): Promise<void> {
  // A body that broke off or stalled is still held by its reader.
  if (!body || body.locked) return
  const reader = body.getReader()
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<{ done: true; value: undefined }>((resolve) => {
    timer = setTimeout(() => resolve({ done: true, value: undefined }), MAX_MS)
  })
  try {
    for (let size = 0; size < MAX_BYTES; ) {
      const { done, value } = await Promise.race([reader.read(), late])
      if (done) break
      size += value.byteLength
    }
  } catch {
    // It broke off: nobody waits for an answer.
  } finally {
    clearTimeout(timer)
  }
}
