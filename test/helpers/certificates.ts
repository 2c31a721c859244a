import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import type { Der } from '../../src/x509/der-write.ts'
import { basicConstraints, type DistinguishedName, issueCertificate } from '../../src/x509/issue.ts'

/** A test certificate and the key that can issue more below it. */
export interface Issued {
  readonly der: Uint8Array
  readonly subject: DistinguishedName
  readonly publicKey: KeyObject
  readonly privateKey: KeyObject
}

/** What to put into a test certificate; every field has an ordinary default. */
export interface Recipe {
  readonly name?: string
  readonly issuer?: Issued
  readonly from?: number
  readonly to?: number
  readonly extensions?: readonly Der[]
}

/** A certificate made to order; by default a self-signed authority from 2020 to 2060. */
export function certify(recipe: Recipe = {}): Issued {
  const { name = 'test root', issuer, extensions = [basicConstraints(true)] } = recipe
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const subject: DistinguishedName = [['CN', name]]
  const der = issueCertificate(
    {
      subject,
      issuer: issuer?.subject ?? subject,
      publicKey,
      validFrom: recipe.from ?? Date.UTC(2020, 0),
      validTo: recipe.to ?? Date.UTC(2060, 0),
      extensions,
    },
    issuer?.privateKey ?? privateKey,
  )
  return { der, subject, publicKey, privateKey }
}
