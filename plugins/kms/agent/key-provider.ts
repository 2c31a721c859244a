import { toHex } from '../../../src/attest/hex.ts'
import type { Attester } from '../../../src/attester/attester.ts'
import type { Level } from '../../../src/events/sink.ts'
import type { Certificate } from '../../../src/x509/certificate.ts'

/*
 * The runtime event by which a verifier sees where an application's keys come from (spec dstack
 * §6.3, §8): a KMS with other root keys has another id.
 */

const EVENT = 'key-provider'

/** What the event says; JSON. */
export interface KeyProvider {
  readonly name: 'none' | 'local' | 'tpm' | 'kms'
  /** Of a KMS the SubjectPublicKeyInfo of its root certificate; hex. */
  readonly id: string
}

/** What is expected to have been measured of keys; undefined where any id does. */
export interface ExpectedProvider {
  readonly names: readonly KeyProvider['name'][]
  readonly id?: string | undefined
}

/** The event of a KMS. */
export function kmsProvider({ spki }: Certificate): KeyProvider {
  return { name: 'kms', id: toHex(spki) }
}

/**
 * Says why keys do not come from where the machine measured that they do; undefined when they do,
 * or nothing was measured.
 */
export async function providerConflict(
  { runtimeEvents }: Attester,
  expected: ExpectedProvider,
): Promise<string | undefined> {
  const measured = (await runtimeEvents.list()).find(({ event }) => event === EVENT)
  if (!measured) return undefined
  const text = Buffer.from(measured.event_payload, 'hex').toString('utf8')
  const { name, id } = parsed(text)
  const isNamed = expected.names.some((one) => one === name)
  const { id: wanted = id } = expected
  if (isNamed && id?.toLowerCase() === wanted?.toLowerCase()) return undefined
  return `this machine measured ${EVENT} ${printable(text)}`
}

/** How `[plugins.guest]` is told, which measures the event where nothing before it does. */
export function providerSetting({ name, id }: KeyProvider): string {
  return `[plugins.guest] key_provider = { name = "${name}", id = "${id}" }`
}

/**
 * Measures the event, unless it was measured already.
 *
 * @returns What there is to tell about it, for the event log; undefined when nothing was done.
 * @throws {ApiError} When the machine should be able to, and is not.
 */
export async function measureProvider(
  { runtimeEvents, tdx }: Attester,
  provider: KeyProvider,
): Promise<{ readonly text: string; readonly level: Level } | undefined> {
  const log = await runtimeEvents.list()
  if (log.some(({ event }) => event === EVENT)) return undefined
  if (!tdx?.canExtend) {
    const why = tdx ? 'its kernel shows no measurement registers' : 'it has no register for that'
    const text = `cannot measure the KMS as ${EVENT} on this machine: ${why}`
    return { text, level: 'warn' }
  }
  await runtimeEvents.emit(EVENT, Buffer.from(JSON.stringify(provider)))
  const isLate = log.some(({ event }) => event === 'system-ready')
  const text = `measured the KMS as ${EVENT}`
  if (!isLate) return { text, level: 'info' }
  return { text: `${text} after system-ready, where verifiers do not look`, level: 'warn' }
}

function parsed(text: string): { readonly name?: unknown; readonly id?: string | undefined } {
  try {
    const { name, id } = Object(JSON.parse(text)) as Record<string, unknown>
    return { name, id: typeof id === 'string' ? id : undefined }
  } catch {
    return {}
  }
}

const printable = (text: string): string => JSON.stringify(text.slice(0, 512))
