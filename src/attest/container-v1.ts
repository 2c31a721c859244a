import { encode } from '@msgpack/msgpack'
import type { Container, ContainerPlatform, ContainerStack } from './container.ts'
import { type EventLogEntry, MAX_EVENTS } from './event-log.ts'
import { EvidenceError } from './evidence-error.ts'
import { fromHex, toHex } from './hex.ts'
import { MessagePackReader } from './message-pack.ts'
import type { RuntimeEvent } from './runtime-event.ts'

/** Larger than any quote or document that the verifiers read. */
const MAX_EVIDENCE_BYTES = 128 * 1024
const MAX_PAYLOAD_BYTES = 1024 * 1024
const MAX_NAME_BYTES = 64 * 1024
const MAX_TEXT_BYTES = 4 * 1024 * 1024

/**
 * Reads the MessagePack form (spec dstack §6.6).
 *
 * @throws {EvidenceError} As `readContainer` says.
 */
export function readContainerV1(bytes: Uint8Array): Container {
  const reader = new MessagePackReader(bytes)
  let version: number | undefined
  let platform: ContainerPlatform | undefined
  let stack: ContainerStack | undefined
  reader.map({
    version: () => {
      version = reader.uint()
    },
    platform: () => {
      platform = readPlatform(reader)
    },
    stack: () => {
      stack = readStack(reader)
    },
  })
  reader.end()
  if (version !== 1) {
    throw new EvidenceError(
      'ATTESTATION_VERSION',
      `Cannot read attestation: its map says version ${version}, expected 1`,
    )
  }
  return { version: 1, platform: present(platform, 'platform'), stack: present(stack, 'stack') }
}

/**
 * Writes the MessagePack form, byte by byte as Rust's serde does: quote, document and report data
 * are arrays of integers, digests and payloads of events are binary.
 */
export function writeContainerV1({ platform, stack }: Container): Uint8Array {
  return encode({
    version: 1,
    platform:
      platform.kind === 'tdx'
        ? {
            kind: 'tdx',
            data: { quote: [...platform.quote], event_log: platform.eventLog.map(toEntry) },
          }
        : { kind: platform.kind, data: { nsm_quote: [...platform.document] } },
    stack: {
      kind: stack.kind,
      data: {
        report_data: [...stack.reportData],
        runtime_events: stack.runtimeEvents.map(toRuntimeEvent),
        config: stack.config,
        ...(stack.kind === 'dstack-pod' && { report_data_payload: stack.reportDataPayload }),
      },
    },
  })
}

function toEntry(entry: EventLogEntry): unknown {
  return {
    imr: entry.imr,
    event_type: entry.event_type,
    digest: fromHex(entry.digest, 'digest'),
    event: entry.event,
    event_payload: fromHex(entry.event_payload, 'event payload'),
    ...(entry.version === 2 && { version: 2 }),
    ...(entry.preimage !== undefined && { preimage: entry.preimage }),
  }
}

function toRuntimeEvent({ name, payload, version }: RuntimeEvent): unknown {
  return { event: name, payload, ...(version === 2 && { version }) }
}

function readPlatform(reader: MessagePackReader): ContainerPlatform {
  return readTagged(reader, (kind) => {
    let quote: Uint8Array | undefined
    let document: Uint8Array | undefined
    let eventLog: EventLogEntry[] | undefined
    if (kind !== 'tdx' && kind !== 'nitro-enclave') {
      throw new EvidenceError(
        'ATTESTATION_PLATFORM',
        `Cannot read attestation: platform "${kind}" is not supported, only tdx and nitro-enclave are`,
      )
    }
    reader.map({
      quote: () => {
        quote = reader.bytes(MAX_EVIDENCE_BYTES)
      },
      event_log: () => {
        eventLog = reader.list(MAX_EVENTS, () => readEntry(reader))
      },
      nsm_quote: () => {
        document = reader.bytes(MAX_EVIDENCE_BYTES)
      },
    })
    if (kind === 'nitro-enclave') return { kind, document: present(document, 'nsm_quote') }
    return { kind, quote: present(quote, 'quote'), eventLog: present(eventLog, 'event_log') }
  })
}

function readStack(reader: MessagePackReader): ContainerStack {
  return readTagged(reader, (kind) => {
    if (kind !== 'dstack' && kind !== 'dstack-pod') throw invalid(`stack "${kind}" is unknown`)
    let reportData: Uint8Array | undefined
    let runtimeEvents: RuntimeEvent[] | undefined
    let config: string | undefined
    let payload: string | undefined
    reader.map({
      report_data: () => {
        reportData = reader.bytes(64)
      },
      runtime_events: () => {
        runtimeEvents = reader.list(MAX_EVENTS, () => readRuntimeEvent(reader))
      },
      config: () => {
        config = reader.text(MAX_TEXT_BYTES)
      },
      report_data_payload: () => {
        payload = reader.text(MAX_TEXT_BYTES)
      },
    })
    if (reportData?.length !== 64) throw invalid('report_data is not 64 bytes')
    return {
      kind,
      reportData,
      runtimeEvents: present(runtimeEvents, 'runtime_events'),
      config: present(config, 'config'),
      ...(kind === 'dstack-pod' && { reportDataPayload: present(payload, 'report_data_payload') }),
    }
  })
}

function readEntry(reader: MessagePackReader): EventLogEntry {
  const entry: { -readonly [K in keyof EventLogEntry]?: EventLogEntry[K] } = {}
  reader.map({
    imr: () => {
      entry.imr = reader.uint()
    },
    event_type: () => {
      entry.event_type = reader.uint()
    },
    digest: () => {
      entry.digest = toHex(reader.bytes(48))
    },
    event: () => {
      entry.event = reader.text(MAX_NAME_BYTES)
    },
    event_payload: () => {
      entry.event_payload = toHex(reader.bytes(MAX_PAYLOAD_BYTES))
    },
    version: () => {
      entry.version = readVersion(reader)
    },
    preimage: () => {
      entry.preimage = toHex(fromHex(reader.text(MAX_TEXT_BYTES), 'preimage'))
    },
  })
  return {
    ...entry,
    imr: present(entry.imr, 'imr'),
    event_type: present(entry.event_type, 'event_type'),
    digest: entry.digest ?? '',
    event: present(entry.event, 'event'),
    event_payload: present(entry.event_payload, 'event_payload'),
  }
}

function readRuntimeEvent(reader: MessagePackReader): RuntimeEvent {
  let name: string | undefined
  let payload: Uint8Array | undefined
  let version: 1 | 2 = 1
  reader.map({
    event: () => {
      name = reader.text(MAX_NAME_BYTES)
    },
    payload: () => {
      payload = reader.bytes(MAX_PAYLOAD_BYTES)
    },
    version: () => {
      version = readVersion(reader)
    },
  })
  return { name: present(name, 'event'), payload: present(payload, 'payload'), version }
}

function readVersion(reader: MessagePackReader): 1 | 2 {
  const version = reader.uint()
  if (version === 1 || version === 2) return version
  throw invalid(`an event is of version ${version}, expected 1 or 2`)
}

/** A map of `kind` and then `data`, whose form depends on it. */
function readTagged<T>(reader: MessagePackReader, read: (kind: string) => T): T {
  let kind: string | undefined
  let data: T | undefined
  reader.map({
    kind: () => {
      kind = reader.text(64)
    },
    data: () => {
      data = read(present(kind, 'kind before data'))
    },
  })
  return present(data, 'data')
}

function present<T>(value: T | undefined, name: string): T {
  if (value === undefined) throw invalid(`there is no ${name}`)
  return value
}

function invalid(what: string): EvidenceError {
  return new EvidenceError('ATTESTATION_INVALID', `Cannot read attestation: ${what}`)
}
