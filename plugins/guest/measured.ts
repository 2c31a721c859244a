import type { EventLogEntry } from '../../src/attest/event-log.ts'
import type { AppIdentity } from '../../src/attester/app-identity.ts'

/** What the boot measured of the application: payloads in hex, by the names of their events. */
export type Measured = ReadonlyMap<string, string>

/** Reads the system's own statements, which end with its `system-ready` (spec dstack §6.3). */
export function measuredIn(log: readonly EventLogEntry[]): Measured {
  const ready = log.findIndex(({ event }) => event === 'system-ready')
  const system = ready === -1 ? log : log.slice(0, ready)
  return new Map(system.map(({ event, event_payload }) => [event, event_payload]))
}

/** Names of the events that say something else than `Info`; a verifier goes by the events. */
export function misstated(identity: AppIdentity, measured: Measured): string[] {
  const said = {
    'app-id': identity.appId,
    'compose-hash': identity.composeHash,
    'instance-id': identity.instanceId,
    'os-image-hash': identity.osImageHash,
  }
  return Object.entries(said)
    .filter(([name, value]) => (measured.get(name) ?? value) !== value)
    .map(([name]) => name)
}
