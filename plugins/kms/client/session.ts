import type { PemPair } from '../../../src/tls/self-signed.ts'
import type { Reply } from './answer.ts'
import { type Channel, openChannel } from './channel.ts'
import type { KmsConnectionOptions } from './connection.ts'
import type { Endpoint } from './endpoint.ts'
import { mintClientCertificate } from './own-certificate.ts'
import { type StepLimits, step } from './step.ts'
import { noAnswer, type VerifiedKms, verifyAgain } from './verify-kms.ts'

/** A verified KMS that knows, by its certificate, who asks. */
export interface Session {
  /** Connects, unless it is connected. @throws {KmsError} @throws {ApiError} */
  connect(limits: StepLimits): Promise<void>
  /**
   * Calls a method when all earlier calls are done, whatever came of them.
   *
   * @param body JSON.
   * @throws {KmsError}
   * @throws {ApiError} When this machine cannot prove itself; as `evidenceAbout`.
   */
  ask(method: string, body: string, limits: StepLimits): Promise<Reply>
  /** Closes the connection and forgets the key. */
  drop(): void
}

/**
 * How long this machine shows the same evidence: half of the hour for which documents of Nitro
 * enclaves count (spec dstack §10).
 */
const CERTIFICATE_MS = 30 * 60 * 1000

/** A session that connects when something is asked. */
export function createSession(
  kms: VerifiedKms,
  endpoint: Endpoint,
  { attester, vmConfig, now = Date.now }: KmsConnectionOptions,
): Session {
  const { url } = endpoint
  let own: { readonly pair: PemPair; readonly until: number } | undefined
  let channel: Channel | undefined
  let last: Promise<unknown> = Promise.resolve()

  function drop(): void {
    channel?.close()
    channel = undefined
    own = undefined
  }

  /** A connection to ask on, and whether nothing was asked there before. */
  async function connected(limits: StepLimits): Promise<{ on: Channel; isNew: boolean }> {
    if (own && now() >= own.until) drop()
    if (channel?.usable()) return { on: channel, isNew: false }
    const until = now() + CERTIFICATE_MS
    own ??= {
      pair: await step('prove this machine to', limits, (signal) =>
        mintClientCertificate(kms.authority, attester, vmConfig, signal),
      ),
      until,
    }
    const { pair } = own
    const on = await step('connect to', limits, (signal) => openChannel(endpoint, pair, signal))
    try {
      await verifyAgain(kms, on, url, now())
    } catch (error) {
      on.close()
      throw error
    }
    channel = on
    return { on, isNew: true }
  }

  async function answered(method: string, body: string, limits: StepLimits): Promise<Reply> {
    const { on, isNew } = await connected(limits)
    const reply = await step('ask', limits, (signal) => on.ask(method, body, signal))
    if (reply) return reply
    if (isNew) throw noAnswer(url, method)
    // An older connection may have been closed as idle; to ask twice is free of effects.
    on.close()
    channel = undefined
    return answered(method, body, limits)
  }

  return {
    connect: async (limits) => {
      await connected(limits)
    },
    ask: (method, body, limits) => {
      const before = last
      const mine = step('wait for', limits, () => before).then(() => answered(method, body, limits))
      last = Promise.allSettled([before, mine])
      return mine
    },
    drop,
  }
}
