// What keys cost, without sockets: deriving them for an application and for a KMS, judging who asks,
// signing certificates. `bun bench/kms.ts`, `node --import tsx bench/kms.ts`.

import { sign } from 'node:crypto'
import { Keyring } from '../plugins/kms/agent/keyring.ts'
import { issueLeaf } from '../plugins/kms/certificates/leaf.ts'
import { p256Key } from '../plugins/kms/certificates/p256-key.ts'
import { writeSigningRequest } from '../plugins/kms/certificates/write-signing-request.ts'
import { randomP256Scalar } from '../plugins/kms/derivation/curves.ts'
import type { BootInfo } from '../plugins/kms/policy/boot-info.ts'
import { devPolicy } from '../plugins/kms/policy/dev.ts'
import { DerivedKeys } from '../plugins/kms/server/derived-keys.ts'
import { getAppKey } from '../plugins/kms/server/key-methods.ts'
import { verifyPeer } from '../plugins/kms/server/peer.ts'
import type { Kms } from '../plugins/kms/server/public-methods.ts'
import { createMaterial, randomRootKeys } from '../plugins/kms/server/root-material.ts'
import { signCert } from '../plugins/kms/server/sign-cert.ts'
import { raTlsReportData } from '../src/attest/ra-tls.ts'
import {
  attestedBy,
  cloud,
  containerOf,
  mint,
  rootsOf,
  temporaryCaOf,
} from '../test/plugins/kms-server-fixtures.ts'
import { type Case, measure } from './measure.ts'

const { trust, ...machines } = cloud()
const material = createMaterial(randomRootKeys(), 'kms.example', undefined)
const temporaryCa = temporaryCaOf(material)
const client = mint(material, attestedBy(machines.tdx()))
const { boot } = await verifyPeer(client.der, temporaryCa, trust, Date.now())

await measure([...agent(), ...(await server())])

function agent(): Case[] {
  const keyring = new Keyring(
    { root: randomP256Scalar(), rootSignature: new Uint8Array() },
    undefined,
    1000,
  )
  let names = 0
  const leaf = { subject: 'shop.example', altNames: ['shop.example'] }
  const usages = { serverAuth: true, clientAuth: false }
  return [
    {
      name: 'agent: GetKey, kept',
      count: 1000,
      work: () => times(1000, () => keyring.v0('wallet', '', 'secp256k1')),
    },
    {
      name: 'agent: GetKey, a new name',
      count: 5,
      work: () => times(5, () => keyring.v0(`wallet/${names++}`, '', 'secp256k1')),
    },
    {
      name: 'agent: GetTlsKey',
      count: 5,
      work: () =>
        times(5, () => {
          const key = p256Key(randomP256Scalar())
          issueLeaf(material.authority, key, { ...leaf, ...usages }, [])
        }),
    },
  ]
}

async function server(): Promise<Case[]> {
  const roots = rootsOf(material)
  const parts = { roots, policy: devPolicy(), trust, self: undefined, now: Date.now }
  const kms: Kms = { ...parts, derived: new DerivedKeys() }
  const args = { api_version: 1, vm_config: '' }
  let apps = 0
  const another = (): BootInfo => ({ ...boot, appId: (apps++).toString(16).padStart(40, '0') })
  const request = signingRequest()
  return [
    { name: 'KMS: who asks, verified', count: 1, work: () => verified() },
    {
      name: 'KMS: GetAppKey, kept',
      count: 50,
      work: () => inTurn(50, () => getAppKey(kms, boot, args)),
    },
    {
      name: 'KMS: GetAppKey, a new application',
      count: 1,
      work: () => inTurn(1, () => getAppKey(kms, another(), args)),
    },
    { name: 'KMS: SignCert', count: 1, work: () => inTurn(1, () => signCert(kms, request)) },
  ]
}

async function verified(): Promise<void> {
  await verifyPeer(client.der, temporaryCa, trust, Date.now())
}

function signingRequest() {
  const key = p256Key(randomP256Scalar())
  const platform = machines.tdx().evidence(raTlsReportData(key.spki))
  const csr = writeSigningRequest({
    spki: key.spki,
    leaf: { subject: 'shop', altNames: [], serverAuth: true, clientAuth: false },
    withEvidence: true,
    withAppInfo: false,
    attestation: containerOf(platform, key.spki),
  })
  const signature = new Uint8Array(sign('sha256', csr, key.privateKey))
  return { api_version: 2, csr: new Uint8Array(csr), signature, vm_config: '' }
}

function times(count: number, work: () => unknown): void {
  for (let i = 0; i < count; i++) work()
}

async function inTurn(count: number, work: () => Promise<unknown>): Promise<void> {
  for (let i = 0; i < count; i++) await work()
}
