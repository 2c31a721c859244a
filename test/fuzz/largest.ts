// Inputs as large as the parsers of evidence read them, made to cost as much as they can.
import { encode } from '@msgpack/msgpack'
import { MAX_EVENTS } from '../../src/attest/event-log.ts'
import { ScaleWriter } from '../../src/attest/scale.ts'
import { writeBootLog } from '../../src/simulate/boot-log.ts'
import { MAX_CRL_BYTES } from '../../src/x509/crl.ts'
import { bitString, element, integer, oid, sequence, time } from '../../src/x509/der-write.ts'

const hex = (digits: string) => Buffer.from(digits, 'hex')
const repeated = (bytes: Uint8Array, count: number) => Buffer.concat(Array(count).fill(bytes))
const many = <T>(count: number, make: (index: number) => T) =>
  Array.from({ length: count }, (_, i) => make(i))

/** Numbers, texts, chunks, keys and nesting, as much as 32 KiB may hold of each. */
export const cbor = (): Uint8Array[] => [
  Buffer.concat([hex('990fff'), Buffer.alloc(4095)]),
  Buffer.concat([hex('990fa0'), repeated(hex('66616161616161'), 4000)]),
  Buffer.concat([hex('5f'), repeated(hex('4100'), 4000), hex('ff')]),
  Buffer.concat([hex('b907d0'), ...many(2000, (i) => hex(`19${(4096 + i).toString(16)}00`))]),
  Buffer.alloc(32 * 1024, 0x9f),
]

/** Entries, equal and not, the parts of a name, and extensions. */
export function crl(): Uint8Array[] {
  const algorithm = sequence(oid('1.2.840.10045.4.3.2'))
  const list = (issuer: Uint8Array, ...rest: Uint8Array[]) => {
    const head = [integer(Uint8Array.of(1)), algorithm, issuer, time(0), time(0)]
    return sequence(sequence(...head, ...rest), algorithm, bitString(new Uint8Array(8)))
  }
  const fill = (bytes: Uint8Array) =>
    repeated(bytes, Math.floor((MAX_CRL_BYTES - 128) / bytes.length))
  const entry = (serial: Uint8Array) => sequence(integer(serial), element(0x05))
  const distinct = many(14_000, (i) => entry(hex((0x1_0000 + i).toString(16).padStart(6, '0'))))
  const part = element(0x31, sequence(oid('1.2.3'), element(0x0c, Buffer.from('a'))))
  const extension = sequence(oid('1.2.3'), element(0x04))
  return [
    list(sequence(), element(0x30, fill(entry(Uint8Array.of(1))))),
    list(sequence(), sequence(...distinct)),
    list(element(0x30, fill(part))),
    list(sequence(), element(0xa0, element(0x30, fill(extension)))),
  ]
}

/** As many records as a log may have, and one that fills it. */
export function ccel(): Uint8Array[] {
  const event = (length: number) =>
    ({ register: 1, type: 5, digest: Buffer.alloc(48, 0xab), data: Buffer.alloc(length) }) as const
  return [
    writeBootLog(
      many(MAX_EVENTS, () => event(180)),
      1024 * 1024,
    ),
    writeBootLog([event(1024 * 1024 - 200)], 1024 * 1024),
  ]
}

const MAX_CONTAINER_BYTES = 4 * 1024 * 1024

/** Of either version: as many entries or events as there may be, and one that is huge. */
export function container(): Uint8Array[] {
  const each = Math.floor(MAX_CONTAINER_BYTES / MAX_EVENTS / 2) - 64
  const [name, payload] = ['é'.repeat(each / 2), Buffer.alloc(each)]
  const huge = { name: 'é'.repeat(900_000), payload: Buffer.alloc(2_000_000) }
  const zero = (entries: number, events: number, of = { name, payload }) => {
    const writer = new ScaleWriter().u8(0).u8(0).bytes(Buffer.alloc(20_000))
    const write = () => writer.text(of.name).bytes(of.payload)
    writer.list(
      many(entries, () => 0),
      () => {
        writer.u32(3).u32(0x0800_0001).bytes(Buffer.alloc(48))
        write()
      },
    )
    writer.list(
      many(events, () => 0),
      write,
    )
    return writer.raw(Buffer.alloc(64)).text('{}').finish()
  }
  const one = (entry: object, entries: number, event: object, events: number) => {
    const quote = many(128 * 1024, () => 0xc8)
    const log = many(entries, () => ({ imr: 3, event_type: 0x0800_0001, ...entry }))
    const report_data = many(64, () => 0xc8)
    const stack = { report_data, runtime_events: many(events, () => event), config: '' }
    return encode({
      version: 1,
      platform: { kind: 'tdx', data: { quote, event_log: log } },
      stack: { kind: 'dstack', data: stack },
    })
  }
  const unknown = Object.fromEntries(many(9, (i) => [`unknown ${i}`, 0]))
  const small = { event: 'a', event_payload: Buffer.alloc(1) }
  return [
    zero(MAX_EVENTS, 0),
    zero(0, MAX_EVENTS),
    zero(1, 0, huge),
    one({ event: name.slice(0, 200), event_payload: payload }, MAX_EVENTS, {}, 0),
    one({ ...small, ...unknown }, MAX_EVENTS, {}, 0),
    one(small, 0, { event: 'a', payload: many(900_000, () => 0xc8) }, 2),
  ]
}

/** Entries as long as they may be, and what no log is. */
export function eventLog(): Uint8Array[] {
  const entry = { imr: 3, event_type: 0x0800_0001, digest: 'ab'.repeat(48), event: 'a' }
  const log = many(MAX_EVENTS, () => ({ ...entry, event_payload: 'ab'.repeat(850) }))
  return [
    JSON.stringify(log),
    `[${'{},'.repeat(1_000_000)}{}]`,
    `[${'0,'.repeat(65_000)}0]`,
    '['.repeat(8_000_000),
    `["${String.raw`\"`.repeat(4_000_000)}"]`,
  ].map((json) => Buffer.from(json))
}

/** JSON of many values, and texts in which much has to be looked for. */
export function collateral(): Uint8Array[] {
  const fields = {
    root_ca_crl: '',
    pck_crl: 'A'.repeat(60_000),
    tcb_info_issuer_chain: `-----BEGIN%20${'%41'.repeat(20_000)}`,
    tcb_info: `{"tcbInfo":${',"signature":"'.repeat(4000)}`,
    qe_identity_issuer_chain: '',
    qe_identity: '',
  }
  return [`[${'{},'.repeat(87_000)}0]`, JSON.stringify(fields)].map((json) => Buffer.from(json))
}

/** White space, and blocks that hold nothing. */
export const pem = (): Uint8Array[] =>
  [
    `-----BEGIN CERTIFICATE-----${'\n'.repeat(300_000)}-----END CERTIFICATE-----`,
    `-----BEGIN CERTIFICATE-----${'A'.repeat(20_000)}-----END CERTIFICATE-----`.repeat(10),
  ].map((text) => Buffer.from(text))
