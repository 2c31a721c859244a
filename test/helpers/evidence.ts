import { ccelEntries } from '../../src/attest/ccel.ts'
import { configIdV1 } from '../../src/attest/config-id.ts'
import type { EventLogEntry } from '../../src/attest/event-log.ts'
import { runtimeEntry } from '../../src/attest/runtime-event.ts'
import { bootEvents, writeBootLog } from '../../src/simulate/boot-log.ts'
import { createNitroChain, createNitroRoot } from '../../src/simulate/nitro-pki.ts'
import { type DocumentFields, signDocument } from '../../src/simulate/nsm-document.ts'
import { createCollateral } from '../../src/simulate/tdx-collateral.ts'
import { createTdxPki } from '../../src/simulate/tdx-pki.ts'
import { createQuotingEnclave } from '../../src/simulate/tdx-quote.ts'
import { type RtmrIndex, TrustDomain } from '../../src/simulate/trust-domain.ts'

/** When all samples are made, and valid. */
export const SAMPLE_TIME = Date.UTC(2026, 2, 1)

/** What the sample TD measured about its application. */
export const SAMPLE_APP = { appId: 'ab'.repeat(20), composeHash: 'cd'.repeat(32) } as const

/** A TD that booted and measured an application, and what a verifier needs to believe it. */
export interface TdxSample {
  /** DER. */
  readonly root: Uint8Array
  /** JSON. */
  readonly collateral: string
  /** CCEL, padded. */
  readonly bootLog: Uint8Array
  /** Boot and runtime entries. */
  readonly eventLog: readonly EventLogEntry[]
  quote(reportData: Uint8Array): Uint8Array
}

export function tdxSample(): TdxSample {
  const pki = createTdxPki(SAMPLE_TIME)
  const sign = createQuotingEnclave(pki)
  const mrConfigId = configIdV1(Buffer.from(SAMPLE_APP.composeHash, 'hex'))
  const domain = new TrustDomain({ mrConfigId })
  const bootLog = writeBootLog(bootEvents())
  const runtime = Object.entries({
    'system-preparing': '',
    'app-id': SAMPLE_APP.appId,
    'compose-hash': SAMPLE_APP.composeHash,
    'instance-id': '',
    'boot-mr-done': '',
    'system-ready': '',
    'of the application': '01',
  }).map(([name, hex]) => runtimeEntry({ name, payload: Buffer.from(hex, 'hex'), version: 1 }))
  const eventLog = [...ccelEntries(bootLog), ...runtime]
  for (const { imr, digest } of eventLog) {
    domain.extend(imr as RtmrIndex, Buffer.from(digest, 'hex'))
  }
  return {
    root: pki.root.certificate,
    collateral: JSON.stringify(createCollateral(pki, SAMPLE_TIME)),
    bootLog,
    eventLog,
    quote: (reportData) => new Uint8Array(sign(domain.report(reportData))),
  }
}

/** An enclave's module, and the root that vouches for it. */
export interface NitroSample {
  /** DER. */
  readonly root: Uint8Array
  document(fields?: Partial<DocumentFields>): Uint8Array
}

export function nitroSample(): NitroSample {
  const root = createNitroRoot(SAMPLE_TIME)
  const chain = createNitroChain(root, 'i-0123456789abcdef0-enc0123456789abcdef', SAMPLE_TIME)
  const pcrs = new Map([0, 1, 2, 3, 4].map((index) => [index, new Uint8Array(48).fill(index + 1)]))
  const usual: DocumentFields = {
    moduleId: 'i-0123456789abcdef0-enc0123456789abcdef',
    timestamp: SAMPLE_TIME,
    pcrs,
    publicKey: null,
    userData: null,
    nonce: null,
  }
  return {
    root: root.certificate,
    document: (fields) => new Uint8Array(signDocument({ ...usual, ...fields }, chain)),
  }
}
