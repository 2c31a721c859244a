import { randomBytes } from 'node:crypto'
import { type Authority, readAuthority } from '../../plugins/kms/certificates/authority.ts'
import { issueLeaf, type LeafRequest } from '../../plugins/kms/certificates/leaf.ts'
import { type P256Key, p256Key } from '../../plugins/kms/certificates/p256-key.ts'
import { randomP256Scalar } from '../../plugins/kms/derivation/curves.ts'
import type { RootMaterial } from '../../plugins/kms/server/root-material.ts'
import { type Roots, rootsFrom } from '../../plugins/kms/server/roots.ts'
import type { EvidenceTrust } from '../../plugins/kms/trust/verified-evidence.ts'
import { ccelEntries } from '../../src/attest/ccel.ts'
import type { Container, ContainerPlatform } from '../../src/attest/container.ts'
import type { EventLogEntry } from '../../src/attest/event-log.ts'
import { raTlsExtensions, raTlsReportData } from '../../src/attest/ra-tls.ts'
import { runtimeEntry } from '../../src/attest/runtime-event.ts'
import { parseCollateral } from '../../src/attest/tdx/collateral.ts'
import type { Attester, Evidence } from '../../src/attester/attester.ts'
import { bootEvents, writeBootLog } from '../../src/simulate/boot-log.ts'
import { createNitroChain, createNitroRoot } from '../../src/simulate/nitro-pki.ts'
import { signDocument } from '../../src/simulate/nsm-document.ts'
import { createCollateral } from '../../src/simulate/tdx-collateral.ts'
import { createTdxPki } from '../../src/simulate/tdx-pki.ts'
import { PLATFORM } from '../../src/simulate/tdx-platform.ts'
import { createQuotingEnclave } from '../../src/simulate/tdx-quote.ts'
import { type RtmrIndex, TrustDomain } from '../../src/simulate/trust-domain.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import type { Der } from '../../src/x509/der-write.ts'
import { readPem } from '../../src/x509/pem.ts'
import { fakeTdx } from '../helpers/attester.ts'
import { hex, unhex } from './kms-fixtures.ts'

/** The roots of a KMS that was never rotated. */
export const rootsOf = (material: RootMaterial): Roots => rootsFrom([material])

/** A certificate in PEM as DER. */
export const derOf = (pem: string): Uint8Array => readPem(pem, 'CERTIFICATE', 1)[0] as Uint8Array

/** What a guest measures of itself, by the names of its events; hex. */
export const APP_EVENTS = {
  'system-preparing': '',
  'app-id': 'ab'.repeat(20),
  'compose-hash': 'cd'.repeat(32),
  'instance-id': 'ef'.repeat(20),
  'boot-mr-done': '',
  'os-image-hash': '12'.repeat(32),
  'key-provider': hex(Buffer.from('{"name":"kms","id":"00"}')),
  'system-ready': '',
} as const

/** A machine that makes evidence, about anything it is asked to. */
export interface Machine {
  readonly eventLog: readonly EventLogEntry[]
  evidence(reportData: Uint8Array): ContainerPlatform
}

/** Machines of one maker, and what a KMS needs to believe them. */
export interface Cloud {
  readonly trust: EvidenceTrust
  /** @param change Does to the TDREPORT what the processor should not. */
  tdx(
    events?: Readonly<Record<string, string>>,
    change?: (tdreport: Uint8Array) => void,
    version?: 4 | 5,
  ): Machine
  nitro(pcr?: number, madeAt?: number): Machine
}

/** @param pki Of another cloud, whose machines are believed where these are. */
export function cloud(now = Date.now(), pki = createTdxPki(now)): Cloud {
  const sign = createQuotingEnclave(pki)
  const collateral = parseCollateral(JSON.stringify(createCollateral(pki, now)))
  const known = hex(PLATFORM.fmspc)
  const nitroRoot = createNitroRoot(now)
  return {
    trust: {
      tdxRoot: pki.root.certificate,
      nitroRoot: nitroRoot.certificate,
      collateral: async ({ fmspc }) => (fmspc === known ? collateral : undefined),
    },
    tdx(events = APP_EVENTS, change = () => undefined, version = 4) {
      const domain = new TrustDomain()
      const runtime = Object.entries(events).map(([name, payload]) =>
        runtimeEntry({ name, payload: unhex(payload), version: 1 }),
      )
      const eventLog = [...ccelEntries(writeBootLog(bootEvents())), ...runtime]
      for (const { imr, digest } of eventLog) domain.extend(imr as RtmrIndex, unhex(digest))
      const evidence = (reportData: Uint8Array): ContainerPlatform => {
        const report = domain.report(reportData)
        change(report)
        return { kind: 'tdx', quote: new Uint8Array(sign(report, version)), eventLog }
      }
      return { eventLog, evidence }
    },
    nitro(pcr = 1, madeAt = now) {
      const moduleId = 'i-0123456789abcdef0-enc0123456789abcdef'
      const chain = createNitroChain(nitroRoot, moduleId, madeAt)
      const pcrs = new Map([0, 1, 2, 3, 4].map((at) => [at, new Uint8Array(48).fill(pcr)]))
      const evidence = (userData: Uint8Array): ContainerPlatform => {
        const fields = { moduleId, timestamp: madeAt, pcrs, publicKey: null, nonce: null }
        const document = signDocument({ ...fields, userData }, chain)
        return { kind: 'nitro-enclave', document: new Uint8Array(document) }
      }
      return { eventLog: [], evidence }
    },
  }
}

/** A machine as the plugin sees the one it runs on. */
export function attesterOf(machine: Machine): Attester {
  const evidence = async (reportData: Uint8Array): Promise<Evidence> => {
    const found = machine.evidence(reportData)
    return found.kind === 'tdx'
      ? { platform: 'tdx', quote: found.quote, eventLog: found.eventLog, reportData }
      : { platform: 'nitro', document: found.document, reportData }
  }
  return { ...fakeTdx().attester, simulated: false, evidence }
}

/** A container around evidence about a key. */
export function containerOf(platform: ContainerPlatform, spki: Uint8Array): Container {
  const reportData = raTlsReportData(spki)
  const stack = { kind: 'dstack', reportData, runtimeEvents: [], config: '' } as const
  return { version: 0, platform, stack }
}

/** A key with a client certificate, PEM and DER. */
export interface Client {
  readonly key: P256Key
  readonly cert: string
  readonly der: Uint8Array
}

const CLIENT: LeafRequest = {
  subject: 'RA-TLS TEMP Cert',
  altNames: [],
  serverAuth: false,
  clientAuth: true,
}

/** A client certificate as guests mint them: by the temporary authority, which anybody can. */
export function mint(
  { temporaryCa }: Pick<RootMaterial, 'temporaryCa'>,
  extensions: (spki: Uint8Array) => readonly Der[],
  request: Partial<LeafRequest> = {},
): Client {
  const authority = readAuthority(temporaryCa.certificate, temporaryCa.key.privateKey)
  return mintBy(authority, extensions, request)
}

/** The same by any authority. */
export function mintBy(
  authority: Authority,
  extensions: (spki: Uint8Array) => readonly Der[],
  request: Partial<LeafRequest> = {},
): Client {
  const key = p256Key(randomP256Scalar())
  const [cert = ''] = issueLeaf(authority, key, { ...CLIENT, ...request }, extensions(key.spki))
  return { key, cert, der: derOf(cert) }
}

/** Extensions with evidence of a machine about the certificate's key. */
export const attestedBy =
  (machine: Machine, form: 'attestation' | 'quote' = 'attestation') =>
  (spki: Uint8Array): readonly Der[] => {
    const platform = machine.evidence(raTlsReportData(spki))
    return raTlsExtensions({ attestation: containerOf(platform, spki) }, form)
  }

/** Extensions with evidence about another key: stolen, or bought. */
export const attestedForAnother = (machine: Machine) => (): readonly Der[] =>
  attestedBy(machine)(randomBytes(91))

/** The temporary authority of a KMS, as it is checked with. */
export const temporaryCaOf = ({ temporaryCa }: RootMaterial) =>
  parseCertificate(derOf(temporaryCa.certificate))
