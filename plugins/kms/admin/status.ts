import { createHash } from 'node:crypto'
import type { z } from 'zod'
import { toHex } from '../../../src/attest/hex.ts'
import { parseCertificate } from '../../../src/x509/certificate.ts'
import { readPem } from '../../../src/x509/pem.ts'
import { publicKeyOf } from '../derivation/curves.ts'
import type { RootMaterial } from '../server/root-material.ts'
import type { Roots } from '../server/root-set.ts'
import type { RequestCount } from './counts.ts'
import type { StatusAnswer } from './messages.ts'

/** What a KMS is doing. */
export interface KmsStatus {
  /** `waiting`: it cannot serve, and tries again by itself. */
  readonly mode: 'stopped' | 'onboarding' | 'waiting' | 'serving'
  /** Why it does not serve keys; undefined when it does. */
  readonly reason: string | undefined
  /** Where it listens, for keys or to be set up. */
  readonly address: string | undefined
  /** Undefined until there are root keys. */
  readonly roots: Roots | undefined
  readonly requests: readonly RequestCount[]
}

/** The status as it is answered: public parts of the keys alone. */
export function statusAnswer({
  mode,
  reason,
  address,
  roots,
  requests,
}: KmsStatus): z.output<typeof StatusAnswer> {
  const current = roots?.current.root.version
  const materials = roots?.versions.map((version) => roots.materialOf(version) as RootMaterial)
  return {
    mode,
    reason: reason ?? null,
    address: address ?? null,
    domain: roots?.current.domain ?? null,
    version: current ?? null,
    versions: (materials ?? []).map((material) => ({
      ...publicPart(material),
      current: material.root.version === current,
    })),
    requests: requests.map((count) => ({ ...count })),
  }
}

function publicPart({ root, authority }: RootMaterial) {
  const [pem = ''] = authority.chain
  const [der = new Uint8Array()] = readPem(pem, 'CERTIFICATE', 1)
  const certificate = parseCertificate(der)
  return {
    version: root.version,
    k256_public_key: toHex(publicKeyOf('secp256k1', root.k256)),
    ca_public_key: toHex(certificate.spki),
    ca_fingerprint: createHash('sha256').update(der).digest('hex'),
    ca_not_after: new Date(certificate.notAfter).toISOString(),
    ca_cert: pem,
  }
}
