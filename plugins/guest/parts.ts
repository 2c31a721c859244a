import type { Attester } from '../../src/attester/attester.ts'
import type { EventSink } from '../../src/events/sink.ts'
import type { Config } from './config.ts'
import type { Identity } from './identity.ts'
import type { MachineFactsReader } from './info.ts'
import type { PublicAttestations } from './public-attestation.ts'

/** Nobody would read evidence behind a HEAD, nor should an event be measured by one. */
export const MAKES_EVIDENCE = { head: false } as const

/** What the routes of this plugin share. */
export interface GuestParts {
  readonly attester: Attester
  readonly config: Config
  readonly events: EventSink
  /** @throws {Error} Before the plugin started. */
  readonly identity: () => Identity
  readonly facts: MachineFactsReader
  readonly publicAttestations: PublicAttestations
}
