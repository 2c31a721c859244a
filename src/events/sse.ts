/** One block of a stream of server-sent events. */
export interface SseRecord {
  /** Type; `message` when the block names none. */
  readonly event: string
  readonly data: string
}

/** What a stream says beside its records. */
export interface SseState {
  /** Last id seen, also of blocks without data. */
  id: string
}

/** Longest line accepted, in UTF-16 units: a record is one event of the log. */
const MAX_LINE = 8 * 1024 * 1024

/**
 * Reads server-sent events (WHATWG HTML §9.2.6) from a body. Yields undefined for a block without
 * data (a heartbeat), so that the caller sees that the stream is alive.
 *
 * @throws {RangeError} When a line is longer than 8 Mi characters.
 */
export async function* readSse(
  body: ReadableStream<Uint8Array>,
  state: SseState,
): AsyncGenerator<SseRecord | undefined> {
  const decoder = new TextDecoder()
  const reader = body.getReader()
  let rest = ''
  let event = ''
  let data: string[] = []
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      rest += decoder.decode(value, { stream: true })
      const lines = rest.split('\n')
      rest = lines.pop() ?? ''
      if (rest.length > MAX_LINE) throw new RangeError('Cannot read the stream: a line is too long')
      for (const line of lines) {
        if (line === '' || line === '\r') {
          yield data.length > 0 ? { event: event || 'message', data: data.join('\n') } : undefined
          event = ''
          data = []
          continue
        }
        const [, name, text = ''] = /^([^:\r]*)(?:: ?(.*?))?\r?$/.exec(line) ?? []
        if (name === 'data') data.push(text)
        else if (name === 'event') event = text
        else if (name === 'id') state.id = text
      }
    }
  } finally {
    reader.cancel().catch(() => undefined)
  }
}
