import { mkdtempSync, rmSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { QuotedPlatform } from '../../src/collateral/platform.ts'
import { createCollateral, type TdxCollateral } from '../../src/simulate/tdx-collateral.ts'
import { createTdxPki } from '../../src/simulate/tdx-pki.ts'
import { PLATFORM } from '../../src/simulate/tdx-platform.ts'
import type { PemPair } from '../../src/tls/self-signed.ts'
import { hex, unhex } from './kms-fixtures.ts'
import { type Seen, type StandIn, standIn } from './kms-policy-fixtures.ts'

export const DAY_MS = 24 * 3600 * 1000

/** A maker of platforms, as strange as any other. */
export const maker = (now = Date.now()) => createTdxPki(now)

/** The kind of platform that simulated machines are. */
export const PLATFORM_HERE: QuotedPlatform = { fmspc: hex(PLATFORM.fmspc), ca: 'platform' }

/** Another kind; nobody signed what is said of it. */
export const ELSEWHERE: QuotedPlatform = { fmspc: '00a06f000000', ca: 'platform' }

/** Collateral of an hour ago for the platforms here, or said to be for another kind. */
export function collateralOf(
  pki: ReturnType<typeof maker>,
  now = Date.now(),
  { fmspc } = PLATFORM_HERE,
): TdxCollateral {
  const made = createCollateral(pki, now)
  const tcb_info = made.tcb_info.replace(/"fmspc":"[^"]*"/, `"fmspc":"${fmspc.toUpperCase()}"`)
  return { ...made, tcb_info }
}

/** A part of a PCCS's answers. */
export type Part = 'pckcrl' | 'rootcacrl' | 'tcb' | 'identity'

/** What a part is answered with. */
export interface PartAnswer {
  readonly status: number
  readonly headers: Record<string, string>
  readonly body: Uint8Array
}

/** How a PCCS answers each part. */
export type Answers = Record<Part, PartAnswer>

/** Collateral as a PCCS serves it. */
export function answersOf(
  collateral: TdxCollateral,
  encode: (pem: string) => string = encodeURIComponent,
): Answers {
  const part = (body: Uint8Array | string, headers = {}): PartAnswer => ({
    status: 200,
    headers,
    body: Buffer.from(body),
  })
  const { tcb_info_signature, qe_identity_signature } = collateral
  return {
    pckcrl: part(unhex(collateral.pck_crl), {
      'SGX-PCK-CRL-Issuer-Chain': encode(collateral.pck_crl_issuer_chain),
    }),
    rootcacrl: part(collateral.root_ca_crl),
    tcb: part(`{"tcbInfo":${collateral.tcb_info},"signature":"${tcb_info_signature}"}`, {
      'TCB-Info-Issuer-Chain': encode(collateral.tcb_info_issuer_chain),
    }),
    identity: part(
      `{"enclaveIdentity":${collateral.qe_identity},"signature":"${qe_identity_signature}"}`,
      { 'SGX-Enclave-Identity-Issuer-Chain': encode(collateral.qe_identity_issuer_chain) },
    ),
  }
}

/** A PCCS on this machine; a part may be answered in another way than usual. */
export interface StandInPccs extends StandIn {
  answers: Answers
  odd: Partial<Record<Part, (response: ServerResponse) => void>>
}

const PATHS: Record<string, Part> = {
  '/sgx/certification/v4/pckcrl': 'pckcrl',
  '/sgx/certification/v4/rootcacrl': 'rootcacrl',
  '/tdx/certification/v4/tcb': 'tcb',
  '/tdx/certification/v4/qe/identity': 'identity',
}

export async function standInPccs(
  t: TestContext,
  answers: Answers,
  tls?: PemPair,
): Promise<StandInPccs> {
  const onRequest = ({ path }: Seen, response: ServerResponse) => {
    const part = PATHS[path.split('?')[0] ?? '']
    if (!part) return response.writeHead(404).end()
    const odd = self.odd[part]
    if (odd) return odd(response)
    const { status, headers, body } = self.answers[part]
    return response.writeHead(status, headers).end(body)
  }
  const server = await standIn(t, onRequest, tls)
  const self: StandInPccs = Object.assign(server, { answers, odd: {} })
  return self
}

/** A folder of its own, gone after the test. */
export function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-test-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}
