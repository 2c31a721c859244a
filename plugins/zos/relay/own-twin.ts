import { sameBytes } from '../../../src/attest/hex.ts'
import type { Twin } from '../registry/registry.ts'
import { createBackoff } from '../rmb/backoff.ts'
import type { Identity } from '../rmb/identity.ts'

export interface CompareOptions {
  readonly twinId: number
  readonly identity: Identity
  /** Of the relays it connects to. */
  readonly hosts: readonly string[]
  /** Asks the registry. */
  twin(): Promise<Twin | undefined>
  tell(difference: string): void
  /** The registry could not be asked; it is asked again after a pause. */
  onUnknown(reason: string): void
  readonly retryMs: number
  readonly maxRetryMs: number
  readonly signal: AbortSignal
}

/**
 * Makes a function that tells what {@link differences} finds, once for each change. It may be called
 * at any time, never rejects, and asks the registry no more than once at a time.
 */
export function compareOwnTwin(options: CompareOptions): () => Promise<void> {
  const { twinId, identity, hosts, signal } = options
  let told = ''
  let again = false
  let comparing: Promise<void> | undefined

  const once = async () => {
    const backoff = createBackoff(options.retryMs, options.maxRetryMs)
    while (!signal.aborted) {
      try {
        const found = differences(twinId, await options.twin(), identity, hosts)
        const text = found.join('\n')
        if (text !== told) for (const difference of found) options.tell(difference)
        told = text
        return
      } catch (error) {
        if (signal.aborted) return
        options.onUnknown(error instanceof Error ? error.message : String(error))
        await backoff.pause(signal)
      }
    }
  }
  const run = async () => {
    do {
      again = false
      await once()
    } while (again && !signal.aborted)
  }
  return () => {
    again = true
    comparing ??= run().finally(() => {
      comparing = undefined
    })
    return comparing
  }
}

/**
 * What the registry says of this twin that keeps others from talking with it. A peer of the
 * reference would change the registry (spec §10.4); this daemon writes nothing there.
 *
 * @param twin Undefined where the registry knows none.
 * @param hosts Of the relays it is connected to.
 * @returns One sentence for each, with the remedy.
 */
export function differences(
  twinId: number,
  twin: Twin | undefined,
  identity: Identity,
  hosts: readonly string[],
): readonly string[] {
  const remedy = 'update the twin in the registry, for example with a client of the grid'
  if (!twin) return [`twin ${twinId} is not in the registry, so relays refuse it: register it`]
  if (!sameBytes(twin.publicKey, identity.publicKey) || wrongType(twin, identity)) {
    return [
      `the key of twin ${twinId} is another than that of the identity (${identity.keyType} ` +
        `${hex(identity.publicKey)}), so relays refuse it: correct the secret, its key type or the twin id`,
    ]
  }
  const found: string[] = []
  if (!twin.pk) {
    found.push(
      `twin ${twinId} has no key for encryption in the registry, so nobody can read its encrypted ` +
        `replies: ${remedy} to have pk ${hex(identity.pk)}`,
    )
  } else if (!sameBytes(twin.pk, identity.pk)) {
    found.push(
      `the key for encryption of twin ${twinId} in the registry is not that of the identity, so ` +
        `encrypted messages cannot be read: ${remedy} to have pk ${hex(identity.pk)}`,
    )
  }
  const named = new Set(twin.relays.map((relay) => relay.toLowerCase()))
  const missing = hosts.filter((host) => !named.has(host.toLowerCase()))
  const absent = twin.relays.filter((relay) => !hosts.includes(relay.toLowerCase()))
  if (missing.length > 0 || absent.length > 0) {
    found.push(
      `twin ${twinId} is expected at ${twin.relays.join(', ') || 'no relay'}, but connects to ` +
        `${hosts.join(', ')}: ${remedy}, or change the relays of this daemon`,
    )
  }
  return found
}

function wrongType({ keyType }: Twin, identity: Identity): boolean {
  return keyType !== undefined && keyType !== identity.keyType
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}
