import { readContainerV0, writeContainerV0 } from './container-v0.ts'
import { readContainerV1, writeContainerV1 } from './container-v1.ts'
import { type EventLogEntry, isAcpiEntry } from './event-log.ts'
import { EvidenceError } from './evidence-error.ts'
import { isRuntimeEntry, type RuntimeEvent } from './runtime-event.ts'

/** What `Attest` of dstack answers: evidence, events and configuration in one (spec dstack §6.6). */
export interface Container {
  /** 0 is written in SCALE, 1 in MessagePack. */
  readonly version: 0 | 1
  readonly platform: ContainerPlatform
  readonly stack: ContainerStack
}

/** The evidence inside. */
export type ContainerPlatform =
  | {
      readonly kind: 'tdx'
      /** As the device gave it, padding included. */
      readonly quote: Uint8Array
      readonly eventLog: readonly EventLogEntry[]
    }
  | { readonly kind: 'nitro-enclave'; readonly document: Uint8Array }

/** What the guest's software says beside the evidence. */
export interface ContainerStack {
  /** `dstack-pod` in version 1 only. */
  readonly kind: 'dstack' | 'dstack-pod'
  /** 64 bytes; the same must be in the evidence. */
  readonly reportData: Uint8Array
  /** On Nitro nothing measures these. */
  readonly runtimeEvents: readonly RuntimeEvent[]
  /** JSON; not measured. */
  readonly config: string
  /** Exactly with `dstack-pod`: what the report data is a hash of. */
  readonly reportDataPayload?: string
}

/** What is read in less than 50 ms; real ones have some 100 KiB, and dstack reads up to 10 MiB. */
const MAX_CONTAINER_BYTES = 4 * 1024 * 1024

/**
 * Reads an attestation container of either version; writing it again gives the same bytes, where
 * version 1 came from an encoder that uses the shortest forms.
 *
 * @throws {EvidenceError} `ATTESTATION_TOO_LONG`, `ATTESTATION_VERSION`, `ATTESTATION_PLATFORM`,
 *   `ATTESTATION_INVALID`, `TRUNCATED`, `TRAILING_BYTES`, and the codes of the two codecs.
 */
export function readContainer(bytes: Uint8Array): Container {
  const first = bytes[0] ?? 0xff
  if (bytes.length > MAX_CONTAINER_BYTES) {
    throw new EvidenceError(
      'ATTESTATION_TOO_LONG',
      `Cannot read attestation: ${bytes.length} bytes, at most ${MAX_CONTAINER_BYTES} are read`,
    )
  }
  if (first === 0) return readContainerV0(bytes)
  if (first >= 0x80 && first < 0x90) return readContainerV1(bytes)
  throw new EvidenceError(
    'ATTESTATION_VERSION',
    `Cannot read attestation: it begins with 0x${first.toString(16)}, expected 0x00 or a MessagePack map`,
  )
}

/**
 * Writes a container in its version.
 *
 * @throws {EvidenceError} `ATTESTATION_VERSION` when version 0 cannot hold what is in it: a runtime
 *   event of version 2, a `dstack-pod`.
 */
export function writeContainer(container: Container): Uint8Array {
  return container.version === 0 ? writeContainerV0(container) : writeContainerV1(container)
}

/** The version that dstack writes: 0 unless some runtime event is of version 2. */
export function containerVersion(events: readonly RuntimeEvent[]): 0 | 1 {
  return events.some(({ version }) => version === 2) ? 1 : 0
}

/**
 * The form that goes into a certificate: of the log only RTMR3 and the three ACPI entries remain.
 * Digests of runtime events are left out where they follow from the rest; version 2 keeps them, as
 * dstack wants its preimage beside them.
 */
export function stripContainer(container: Container): Container {
  const { platform } = container
  if (platform.kind !== 'tdx') return container
  const kept = platform.eventLog.filter((entry) => entry.imr === 3 || isAcpiEntry(entry))
  return { ...container, platform: { ...platform, eventLog: kept.map(stripped) } }
}

function stripped(entry: EventLogEntry): EventLogEntry {
  if (!isRuntimeEntry(entry)) return isAcpiEntry(entry) ? entry : { ...entry, event_payload: '' }
  return entry.version === 2 ? entry : { ...entry, digest: '' }
}
