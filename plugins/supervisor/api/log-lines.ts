import type { LogRecord, Supervisor } from '../supervisor.ts'

/**
 * What services write, as lines of JSON (spec §6), for apps the caller may see. What the supervisor
 * says concerns all, unless it names an app. It ends with the reader, or with the supervisor.
 *
 * @throws {SupervisorError} `TOO_MANY_FOLLOWERS`.
 */
export async function logLines(
  supervisor: Pick<Supervisor, 'followLogs'>,
  visible: (appId: number) => boolean,
): Promise<ReadableStream<Uint8Array<ArrayBuffer>>> {
  const abort = new AbortController()
  const records = supervisor.followLogs(abort.signal)
  const encoder = new TextEncoder()
  // Refusals come with the first record, when there is still a status to give.
  let next: Promise<IteratorResult<LogRecord>> | undefined = Promise.resolve(await records.next())
  return new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      async pull(controller) {
        for (;;) {
          const { value, done } = await (next ?? records.next()).catch(ended)
          next = undefined
          if (done) return controller.close()
          if (value.appId !== undefined && !visible(value.appId)) continue
          return controller.enqueue(encoder.encode(`${JSON.stringify(value)}\n`))
        }
      },
      async cancel() {
        abort.abort()
        await records.return(undefined).catch(() => undefined)
      },
    },
    { highWaterMark: 0 },
  )
}

/** An end by the signal is an end like any other. */
function ended(): IteratorResult<LogRecord> {
  return { value: undefined, done: true }
}
