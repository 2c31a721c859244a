import type { ContainerPlatform } from '../../../src/attest/container.ts'
import { raTlsExtensions } from '../../../src/attest/ra-tls.ts'
import type { Attester } from '../../../src/attester/attester.ts'
import type { CallOptions } from '../../../src/device/devices.ts'
import type { PemPair } from '../../../src/tls/self-signed.ts'
import { evidenceAbout } from '../certificates/evidence.ts'
import { issueLeaf } from '../certificates/leaf.ts'
import { type P256Key, p256Key } from '../certificates/p256-key.ts'
import { randomP256Scalar } from '../derivation/curves.ts'
import type { RootMaterial } from './root-material.ts'

/** With what a KMS shows itself to its clients. */
export interface RpcCertificate {
  /** Its chain, and its key. */
  readonly pair: PemPair
  /** For a certificate that takes its place: clients that come back expect the same key. */
  readonly key: P256Key
  /** SubjectPublicKeyInfo, DER. */
  readonly spki: Uint8Array
  /** The evidence inside, by which a KMS learns what it measured itself. */
  readonly platform: ContainerPlatform
}

/** How one is made. */
export interface RpcCertificateOptions extends CallOptions {
  readonly key?: P256Key | undefined
}

/**
 * A certificate with fresh evidence, for a fresh key unless one is given: for the domain of the KMS, with the usage by
 * which clients tell a KMS from an application (spec dstack §8, §9.5).
 *
 * @throws {ApiError} As `evidenceAbout`; 409 when the evidence makes it larger than peers read.
 */
export async function issueRpcCertificate(
  { authority, domain }: RootMaterial,
  attester: Attester,
  { key = p256Key(randomP256Scalar()), ...options }: RpcCertificateOptions = {},
): Promise<RpcCertificate> {
  const attestation = await evidenceAbout(attester, key.spki, '', options)
  const chain = issueLeaf(
    authority,
    key,
    { subject: domain, altNames: [domain], serverAuth: true, clientAuth: false },
    raTlsExtensions({ usage: 'kms:rpc', attestation }),
  )
  const pair = { cert: chain.join(''), key: key.pem }
  return { pair, key, spki: key.spki, platform: attestation.platform }
}
