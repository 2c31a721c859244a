import { setMaxListeners } from 'node:events'
import { readAnswer } from './answer.ts'
import type { KmsConnection, KmsConnectionOptions } from './connection.ts'
import { endpointOf } from './endpoint.ts'
import { createSession, type Session } from './session.ts'
import type { StepLimits } from './step.ts'
import { verifyKms } from './verify-kms.ts'

const METHOD = /^[A-Za-z]{1,64}$/

/**
 * Connects to a KMS as dstack's guests do (spec dstack §8): verifies it, takes the authority that
 * it has for clients, mints a certificate with evidence of this machine, and comes back with that.
 * Every later connection has to end at the key that was verified on the first one (§13, item 20):
 * else somebody could let the first through and answer the others himself. He would see the
 * certificate of this machine, in which nothing is secret, and be asked nothing.
 *
 * Calls are made one after the other; where the KMS has closed the connection meanwhile, on
 * another one. The signal ends what is going on, and later the connection.
 *
 * @throws {KmsError}
 * @throws {ApiError} When this machine cannot prove itself; as `evidenceAbout`.
 */
export async function openKmsConnection(options: KmsConnectionOptions): Promise<KmsConnection> {
  const { deadlineMs, signal: wanted } = options
  const endpoint = endpointOf(options.url)
  const closing = new AbortController()
  // Each call that waits listens to it.
  setMaxListeners(0, closing.signal)
  const limits: StepLimits = { url: endpoint.url, deadlineMs, signals: [closing.signal] }
  let session: Session | undefined

  function close(): void {
    wanted?.removeEventListener('abort', close)
    closing.abort()
    session?.drop()
  }

  async function call(
    { ask, drop }: Session,
    method: string,
    args: Readonly<Record<string, unknown>>,
    signal: AbortSignal | undefined,
  ): Promise<Readonly<Record<string, unknown>>> {
    if (!METHOD.test(method)) throw new TypeError(`Cannot call "${method}": it is no method`)
    const body = JSON.stringify(args)
    try {
      const reply = await ask(method, body, { ...limits, signals: [closing.signal, signal] })
      return readAnswer(endpoint.url, method, reply)
    } finally {
      // What was closed at the end of a step may have left what the step made.
      if (closing.signal.aborted) drop()
    }
  }

  wanted?.addEventListener('abort', close)
  if (wanted?.aborted) close()
  try {
    const kms = await verifyKms(endpoint, options, limits)
    const own = createSession(kms, endpoint, options)
    session = own
    await own.connect(limits)
    return {
      url: options.url,
      peer: kms.peer,
      root: kms.root,
      call: (method, args, signal) => call(own, method, args, signal),
      close,
    }
  } catch (error) {
    close()
    throw error
  }
}
