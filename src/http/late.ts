import { errnoOf } from '../errors.ts'
import type { HttpListener, TlsPair } from '../runtime.ts'

/** How often an address that is missing is tried. */
const RETRY_MS = 500

/** Whom to tell what became of an address. */
export interface LateReport {
  /** It is not there yet. */
  waiting(): void
  opened(): void
  /** It is there now, but something else is in the way; it is tried no more. */
  failed(error: unknown): void
}

/**
 * Listens on an address of which the machine may have no interface yet, such as the gateway of a
 * container network that has still to be made: tries it again until it can be used.
 *
 * @param open Binds it. Its error is thrown when it is another than a missing address.
 */
export async function openLate(
  open: () => Promise<HttpListener>,
  report: LateReport,
  retryMs = RETRY_MS,
): Promise<HttpListener> {
  let listener: HttpListener | undefined
  let pair: TlsPair | undefined
  let timer: ReturnType<typeof setTimeout> | undefined
  let trying: Promise<void> = Promise.resolve()
  let closed = false

  const attempt = async (): Promise<void> => {
    try {
      listener = await open()
      if (pair) listener.replaceTls(pair)
    } catch (error) {
      if (!isMissing(error)) throw error
    }
  }
  const again = () => {
    timer = setTimeout(() => {
      trying = attempt().then(
        () => {
          if (listener) report.opened()
          else if (!closed) again()
        },
        (error) => report.failed(error),
      )
    }, retryMs)
    timer.unref?.()
  }

  await attempt()
  if (!listener) {
    report.waiting()
    again()
  }
  return {
    get port() {
      return listener?.port ?? 0
    },
    replaceTls(next) {
      pair = next
      listener?.replaceTls(next)
    },
    async close(deadlineMs) {
      closed = true
      clearTimeout(timer)
      await trying
      await listener?.close(deadlineMs)
    },
  }
}

function isMissing(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  // The second is Deno's word for it.
  return ['EADDRNOTAVAIL', 'EINVAL'].includes(errnoOf(error) ?? '') || isMissing(error.cause)
}
