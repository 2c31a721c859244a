import assert from 'node:assert/strict'
import { secp256k1 } from '@noble/curves/secp256k1'
import { keccak_256 } from '@noble/hashes/sha3'
import type { AppIdentity } from '../../src/attester/app-identity.ts'
import { createIdentity, type Identity } from '../../src/simulate/identity.ts'
import { certificatePem } from '../../src/x509/issue.ts'

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
export const unhex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'))

/** Root key of dstack's simulator, published, and what it answers by path (spec dstack §11). */
export const SIMULATOR_ROOT = 'd6e88992cdeeee35fe70b5db61ab66cdb191fb9b6ec9313757ef162dd7214d5d'
export const SIMULATOR_KEYS = {
  '': 'aa221ae548b5a8f52fcb8687cfd873712f6a1232b2717e5ee3d58ab74f21905b',
  '/': 'f6c1ed94488394d78e0a4e5ab75d62e9f085d73b0b555d0614fb90ca13d9464d',
  test: '133e8ca6e532ead3e38f00347408771da296e9c70e8e3e362f485154e64ef4e8',
} as const

/** Whose key made a link of a signature chain over a message: compressed, hex. */
export function signerOf(link: Uint8Array, message: Uint8Array): string {
  assert.equal(link.length, 65)
  const signature = secp256k1.Signature.fromCompact(link.subarray(0, 64))
  const recovered = signature.addRecoveryBit(link[64] ?? 9).recoverPublicKey(keccak_256(message))
  return hex(recovered.toRawBytes(true))
}

/** A root certificate with another key identifier than ours would be. */
export function testAuthority(): Identity {
  return createIdentity({
    subject: [
      ['O', 'Tests'],
      ['CN', 'Authority of the key file'],
    ],
    curve: 'P-256',
    validFrom: Date.UTC(2020, 0, 1),
    validTo: Date.UTC(2050, 0, 1),
    ca: true,
  })
}

/** What a key file of dstack holds (spec dstack §7.4). */
export function keyFile(
  authority: Identity,
  parts: Readonly<Record<string, unknown>> = {},
): string {
  const key = authority.privateKey.export({ type: 'pkcs8', format: 'pem' })
  return JSON.stringify({
    disk_crypt_key: '11'.repeat(32),
    env_crypt_key: '',
    k256_key: SIMULATOR_ROOT,
    k256_signature: '22'.repeat(65),
    gateway_app_id: 'any',
    ca_cert: certificatePem(authority.certificate),
    key_provider: { None: { key } },
    ...parts,
  })
}

/** Who the application is in these tests. */
export const IDENTITY: AppIdentity = {
  appName: 'shop',
  appId: 'ab'.repeat(20),
  instanceId: 'cd'.repeat(20),
  composeHash: 'ef'.repeat(32),
  appCompose: '{}',
  osImageHash: '',
  vmConfig: '{"cpu_count":1}',
  keyProvider: undefined,
}
