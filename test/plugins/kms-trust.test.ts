/** Guests that are believed by what a service says of their platform, from end to end. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import * as v from 'valibot'
import { verifyPeer } from '../../plugins/kms/server/peer.ts'
import { createMaterial, randomRootKeys } from '../../plugins/kms/server/root-material.ts'
import { TrustConfig } from '../../plugins/kms/trust/config.ts'
import { openTrust } from '../../plugins/kms/trust/open-trust.ts'
import type { EvidenceTrust } from '../../plugins/kms/trust/verified-evidence.ts'
import { pckChainOf } from '../../src/attest/tdx/pck.ts'
import { parseQuote } from '../../src/attest/tdx/quote.ts'
import type { TdxCollateral } from '../../src/simulate/tdx-collateral.ts'
import { certificatePem } from '../../src/x509/issue.ts'
import { hex } from './kms-fixtures.ts'
import { APP_EVENTS, attestedBy, cloud, mint, temporaryCaOf } from './kms-server-fixtures.ts'
import {
  answersOf,
  DAY_MS,
  PLATFORM_HERE,
  standInPccs,
  temporaryFolder,
} from './kms-trust-fixtures.ts'

const NOW = Date.now()
const { trust, ...machines } = cloud(NOW)
const material = createMaterial(randomRootKeys(), 'kms.example', undefined)

/** What the cloud's trust holds, as its maker would publish it. */
async function published(): Promise<TdxCollateral> {
  const found = await trust.collateral(PLATFORM_HERE)
  const evidence = machines.tdx().evidence(new Uint8Array(64))
  assert.ok(found && evidence.kind === 'tdx')
  const [, authority, root] = pckChainOf(parseQuote(evidence.quote))
  return {
    pck_crl_issuer_chain: certificatePem(authority.der) + certificatePem(root.der),
    root_ca_crl: hex(found.rootCrl),
    pck_crl: hex(found.pckCrl),
    tcb_info_issuer_chain: found.tcbInfo.issuerChain,
    tcb_info: found.tcbInfo.text,
    tcb_info_signature: hex(found.tcbInfo.signature),
    qe_identity_issuer_chain: found.qeIdentity.issuerChain,
    qe_identity: found.qeIdentity.text,
    qe_identity_signature: hex(found.qeIdentity.signature),
  }
}

test('a guest is believed by a PCCS, and while that is down, as long as its word counts', async (t) => {
  const folder = temporaryFolder(t)
  const root = join(folder, 'root.pem')
  writeFileSync(root, certificatePem(trust.tdxRoot as Uint8Array))
  const good = answersOf(await published())
  const pccs = await standInPccs(t, good)
  let now = NOW
  const log: string[] = []
  const opened: EvidenceTrust = await openTrust(
    v.parse(TrustConfig, { tdx_root: root, pccs_url: pccs.url }),
    { log: (message) => log.push(message), now: () => now },
  )
  const machine = machines.tdx()
  const verify = (at: number) => {
    now = at
    const { der } = mint(material, attestedBy(machine))
    return verifyPeer(der, temporaryCaOf(material), opened, at)
  }
  for (let i = 0; i < 3; i++) assert.equal((await verify(NOW)).boot.appId, APP_EVENTS['app-id'])
  assert.equal(pccs.seen.length, 4)
  assert.equal((await verify(NOW)).boot.tcbStatus, 'UpToDate')

  pccs.answers = { ...good, tcb: { ...good.tcb, status: 503 } }
  assert.ok(await verify(NOW + 20 * DAY_MS))
  assert.equal(log.length, 1)
  assert.match(log[0] ?? '', /^Cannot get http:.*: status 503$/)
  await assert.rejects(verify(NOW + 31 * DAY_MS), ({ status, code, cause }) => {
    assert.deepEqual([status, code, cause.code], [500, 'INTERNAL_ERROR', 'PCCS_REFUSED'])
    return true
  })
})
