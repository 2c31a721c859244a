import { createHash } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import type { RootMaterial } from '../../plugins/kms/server/root-material.ts'
import { createMaterial, randomRootKeys } from '../../plugins/kms/server/root-material.ts'
import type { EventLogEntry } from '../../src/attest/event-log.ts'
import { RA_TLS_OID, raTlsExtensions, raTlsReportData } from '../../src/attest/ra-tls.ts'
import { type Der, octetString } from '../../src/x509/der-write.ts'
import { extension } from '../../src/x509/issue.ts'
import { unhex } from '../plugins/kms-fixtures.ts'
import {
  attestedBy,
  attestedForAnother,
  type Client,
  type Cloud,
  cloud,
  type Machine,
  mint,
  mintBy,
} from '../plugins/kms-server-fixtures.ts'

/** What an application measured, by the names of its events. */
export type Measured = Readonly<Record<string, string>>

/** Somebody who gets nothing, and the code under which that is counted. */
export interface Impostor {
  readonly client: Client | undefined
  readonly reason: string
}

const EVIDENCE_MISSING = ''

/**
 * Clients that pose as an application, by the names of what is wrong with them.
 *
 * @param victim What the application measured, whose keys are wanted.
 */
export function impostors(
  material: RootMaterial,
  machines: Cloud,
  victim: Measured,
): Readonly<Record<string, Impostor>> {
  const evidence = attestedBy(machines.tdx(victim))
  const by = (machine: Machine) => mint(material, attestedBy(machine))
  const changed = (offset: number, value: number, version?: 4 | 5) =>
    by(
      machines.tdx(
        victim,
        (report) => {
          report[offset] = value
        },
        version,
      ),
    )
  const logged = (change: (log: readonly EventLogEntry[]) => readonly EventLogEntry[]) => {
    const machine = machines.tdx(victim)
    const eventLog = change(machine.eventLog)
    return by({ eventLog, evidence: (data) => ({ ...machine.evidence(data), eventLog }) })
  }
  const strangers = cloud()
  const elsewhere = createMaterial(randomRootKeys(), 'kms.example', undefined)
  const { 'app-id': _, ...anonymous } = victim
  const bomb = Buffer.concat([Buffer.from('ELGZv1'), gzipSync(Buffer.alloc(8_000_000))])
  const spkiOfAnother = new Uint8Array(91)
  const all: Record<string, readonly [Client | undefined, string]> = {
    'shows no certificate': [undefined, EVIDENCE_MISSING],
    'has no evidence in it': [mint(material, () => []), EVIDENCE_MISSING],
    'says who it is, and proves nothing': [
      mint(material, () =>
        raTlsExtensions({ appId: unhex(victim['app-id'] ?? ''), usage: 'app:custom' }),
      ),
      EVIDENCE_MISSING,
    ],
    'has evidence about another key': [
      mint(material, attestedForAnother(machines.tdx(victim))),
      'REPORT_DATA_MISMATCH',
    ],
    'repeats evidence of a certificate it saw': [
      mint(material, () => evidence(spkiOfAnother)),
      'REPORT_DATA_MISMATCH',
    ],
    'was valid once': [
      mint(material, evidence, { notAfter: 1_000_000_000 }),
      'CERTIFICATE_EXPIRED',
    ],
    'is going to be valid': [
      mint(material, evidence, { notBefore: 4_000_000_000, notAfter: 4_100_000_000 }),
      'CERTIFICATE_NOT_YET_VALID',
    ],
    'has a certificate of another KMS': [mint(elsewhere, evidence), 'CERTIFICATE_NOT_ISSUED'],
    'has a certificate of its own making': [
      mintBy(elsewhere.authority, evidence),
      'CERTIFICATE_NOT_ISSUED',
    ],
    'has a quote by another maker': [by(strangers.tdx(victim)), 'ROOT_UNKNOWN'],
    'has a document by another maker': [by(strangers.nitro()), 'NITRO_ROOT_UNKNOWN'],
    'has a document of an enclave under debug': [by(strangers.nitro(0)), 'NITRO_ROOT_UNKNOWN'],
    'can be debugged': [changed(512, 1), 'TD_DEBUG'],
    'can be looked into in another way': [changed(512, 2), 'TD_ATTRIBUTES_RESERVED'],
    'can be stopped by the host at will': [changed(515, 0), 'TD_SEPT_VE'],
    'runs under a module of somebody': [changed(328, 1), 'TDX_MODULE_MISMATCH'],
    'has a service TD beside it': [changed(912, 1, 5), 'TD_SERVICE_TD'],
    'logged another application than it measured': [
      logged((log) =>
        log.map((entry) =>
          entry.event === 'app-id' ? { ...entry, event_payload: 'ee'.repeat(20) } : entry,
        ),
      ),
      'EVENT_LOG_MISMATCH',
    ],
    'logged less than it measured': [logged((log) => log.slice(0, -1)), 'EVENT_LOG_MISMATCH'],
    'logged nothing': [logged(() => []), 'EVENT_LOG_MISMATCH'],
    'measured no application': [by(machines.tdx(anonymous)), 'APP_ID_MISSING'],
    'measured something that hides a name': [
      by(machines.tdx({ 'app-id:x': '', ...victim })),
      'EVENT_AMBIGUOUS',
    ],
    'has an event log that inflates to megabytes': [
      mint(material, (spki) => [
        ...olderForm(machines.tdx(victim), spki),
        rawExtension('eventLog', bomb),
      ]),
      'RATLS_EVENT_LOG',
    ],
    'has evidence on a platform that is none': [
      mint(material, () => [rawExtension('attestation', Uint8Array.of(0, 3, 0, 0))]),
      'ATTESTATION_PLATFORM',
    ],
  }
  return Object.fromEntries(
    Object.entries(all).map(([name, [client, reason]]) => [name, { client, reason }]),
  )
}

/** The quote alone; its event log comes beside it. */
function olderForm(machine: Machine, spki: Uint8Array): readonly Der[] {
  const platform = machine.evidence(raTlsReportData(spki))
  return platform.kind === 'tdx' ? [rawExtension('quote', platform.quote)] : []
}

/** An extension with any bytes in it. */
export function rawExtension(name: keyof typeof RA_TLS_OID, content: Uint8Array): Der {
  return extension(RA_TLS_OID[name], false, octetString(content))
}

/** Containers that promise more than there is of them, by what they promise. */
export const BOMBS: Readonly<Record<string, Uint8Array>> = {
  'SCALE: a quote of a gigabyte': Buffer.from('0000feffffff', 'hex'),
  'SCALE: a length of 2^536': Buffer.from(`0000ff${'ff'.repeat(67)}`, 'hex'),
  'SCALE: a billion entries': Buffer.from('000004aafeffffff', 'hex'),
  'SCALE: nothing': Uint8Array.of(0),
  'MessagePack: a map of four billion': Buffer.from('dfffffffff', 'hex'),
  'MessagePack: an array of four billion': Buffer.from(
    '82a8706c6174666f726d82a46b696e64a3746478a464617461' + '81a571756f7465ddffffffff',
    'hex',
  ),
  'MessagePack: a text of four billion': Buffer.from('81dbffffffff', 'hex'),
  'MessagePack: arrays in one another': Buffer.concat([
    Buffer.from('81a178', 'hex'),
    Buffer.alloc(8000, 0x91),
  ]),
  'MessagePack: maps in one another': Buffer.concat([
    Buffer.from('81a178', 'hex'),
    Buffer.alloc(8000, 0x81),
  ]),
  'MessagePack: one key many times': Buffer.concat([
    Buffer.from('8f', 'hex'),
    ...Array.from({ length: 15 }, () => Buffer.from('a776657273696f6e01', 'hex')),
  ]),
  'neither: no bytes': new Uint8Array(),
  'neither: a hash': createHash('sha512').digest(),
}
