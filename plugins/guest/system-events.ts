import { fromHex, toHex } from '../../src/attest/hex.ts'
import type { Attester } from '../../src/attester/attester.ts'
import { ApiError } from '../../src/errors.ts'
import type { Identity } from './identity.ts'

/** Names the boot measures under; statements of the system, never of an application (§6.3). */
const RESERVED: ReadonlySet<string> = new Set([
  'system-preparing',
  'app-id',
  'compose-hash',
  'init-script-hash',
  'gpu-policy-hash',
  'gpu-attestation',
  'instance-id',
  'boot-mr-done',
  'os-image-hash',
  'key-provider',
  'storage-fs',
  'system-ready',
])

/**
 * A name and the start of its payload are hashed with a colon between them, so what comes before a
 * colon counts too: `app-id:x` would hash as `app-id` does.
 *
 * @throws {ApiError} 400 when an application may not use this name.
 */
export function assertFreeName(name: string): void {
  const [first = ''] = name.split(':', 1)
  if (!RESERVED.has(first)) return
  const why = `Cannot measure the event "${name}": the name is the system's own`
  throw new ApiError(400, 'EVENT_RESERVED', why)
}

/**
 * Measures who the application is, in the order of dstack's boot (spec dstack §6.3), and goes on
 * where an earlier run of the daemon was interrupted. A log that begins in another way is left
 * alone: the boot has said it already.
 *
 * @throws {ApiError} When the machine cannot measure.
 */
export async function measureIdentity(attester: Attester, identity: Identity): Promise<void> {
  const { runtimeEvents } = attester
  const log = await runtimeEvents.list()
  const none = new Uint8Array()
  const provider = identity.keyProvider ?? { name: 'none', id: '' }
  const events: readonly (readonly [string, Uint8Array])[] = [
    ['system-preparing', none],
    ['app-id', fromHex(identity.appId, 'app id')],
    ['compose-hash', fromHex(identity.composeHash, 'compose hash')],
    ['instance-id', fromHex(identity.instanceId, 'instance id')],
    ['boot-mr-done', none],
    ...(identity.osImageHash === ''
      ? []
      : [['os-image-hash', fromHex(identity.osImageHash, 'OS image hash')] as const]),
    ['key-provider', Buffer.from(JSON.stringify(provider))],
    ['system-ready', none],
  ]
  for (const [at, [name, payload]] of events.entries()) {
    const measured = log[at]
    if (!measured) await runtimeEvents.emit(name, payload)
    else if (measured.event !== name || measured.event_payload !== toHex(payload)) return
  }
}
