import type { Container, ContainerPlatform } from './container.ts'
import { type EventLogEntry, MAX_EVENTS } from './event-log.ts'
import { EvidenceError } from './evidence-error.ts'
import { fromHex, toHex } from './hex.ts'
import type { RuntimeEvent } from './runtime-event.ts'
import { ScaleReader, ScaleWriter } from './scale.ts'

const TDX = 0
const NITRO_ENCLAVE = 2
const VARIANTS = ['tdx', 'gcp-tdx', 'nitro-enclave', 'sev-snp', 'aws-nitro-tpm'] as const

/**
 * Reads the SCALE form (spec dstack §6.6), its leading zero byte included.
 *
 * @throws {EvidenceError} As `readContainer` says.
 */
export function readContainerV0(bytes: Uint8Array): Container {
  const reader = new ScaleReader(bytes, 'attestation')
  reader.take(1)
  const platform = readPlatform(reader)
  const runtimeEvents = reader.list(MAX_EVENTS, (): RuntimeEvent => {
    return { name: reader.text(), payload: reader.bytes(), version: 1 }
  })
  const reportData = reader.take(64)
  const config = reader.text()
  reader.end()
  return { version: 0, platform, stack: { kind: 'dstack', reportData, runtimeEvents, config } }
}

/**
 * Writes the SCALE form.
 *
 * @throws {EvidenceError} `ATTESTATION_VERSION` when it cannot hold what is in the container.
 */
export function writeContainerV0({ platform, stack }: Container): Uint8Array {
  const entries = platform.kind === 'tdx' ? platform.eventLog : []
  const newer = [...stack.runtimeEvents, ...entries].some(({ version }) => version === 2)
  if (newer || stack.kind !== 'dstack') {
    const what = newer ? 'a runtime event is of version 2' : `its stack is "${stack.kind}"`
    throw new EvidenceError(
      'ATTESTATION_VERSION',
      `Cannot write attestation as version 0: ${what}, use version 1`,
    )
  }
  const writer = new ScaleWriter().u8(0)
  if (platform.kind === 'nitro-enclave') writer.u8(NITRO_ENCLAVE).bytes(platform.document)
  else {
    writer.u8(TDX).bytes(platform.quote)
    writer.list(entries, (entry) => writeEntry(writer, entry))
  }
  writer.list(stack.runtimeEvents, ({ name, payload }) => writer.text(name).bytes(payload))
  return writer.raw(stack.reportData).text(stack.config).finish()
}

function readPlatform(reader: ScaleReader): ContainerPlatform {
  const variant = reader.u8()
  if (variant === NITRO_ENCLAVE) return { kind: 'nitro-enclave', document: reader.bytes() }
  if (variant !== TDX) {
    const name = VARIANTS[variant] ?? `number ${variant}`
    throw new EvidenceError(
      'ATTESTATION_PLATFORM',
      `Cannot read attestation: platform ${name} is not supported, only tdx and nitro-enclave are`,
    )
  }
  return {
    kind: 'tdx',
    quote: reader.bytes(),
    eventLog: reader.list(MAX_EVENTS, () => readEntry(reader)),
  }
}

function readEntry(reader: ScaleReader): EventLogEntry {
  const imr = reader.u32()
  const event_type = reader.u32()
  const digest = toHex(reader.bytes())
  const event = reader.text()
  return { imr, event_type, digest, event, event_payload: toHex(reader.bytes()) }
}

function writeEntry(writer: ScaleWriter, entry: EventLogEntry): void {
  writer.u32(entry.imr).u32(entry.event_type).bytes(fromHex(entry.digest, 'digest'))
  writer.text(entry.event).bytes(fromHex(entry.event_payload, 'event payload'))
}
