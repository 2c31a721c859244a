import { createPublicKey } from 'node:crypto'
import {
  basicConstraints,
  certificatePem,
  issueCertificate,
  keyUsage,
  subjectKeyIdentifier,
} from '../../../src/x509/issue.ts'
import {
  type Authority,
  authorityIdentifier,
  DEFAULT_NOT_BEFORE,
  ROOT_PATH_LENGTH,
} from '../certificates/authority.ts'
import { rootName } from '../certificates/root-name.ts'
import type { RootMaterial } from './root-material.ts'
import type { Roots } from './root-set.ts'

/** Roots before the current one by which a KMS is still found; each is a certificate to send. */
export const MAX_ROOT_LINKS = 8

/** They are made with each certificate of the KMS, which is never older than a day. */
const LIFE_MS = 30 * 24 * 3600 * 1000

/**
 * The current authority, with the chain by which clients find it that know an earlier root alone:
 * each root signed by the one before (RFC 4210 §4.4, "new with old"). Never the other way: who stole
 * an old key must not be found by those who have forgotten it.
 */
export function linkedAuthority({ current, materialOf }: Roots): Authority {
  const { version } = current.root
  const first = Math.max(0, version - MAX_ROOT_LINKS)
  const links: string[] = []
  for (let newer = version; newer > first; newer--) {
    const [root, before] = [materialOf(newer), materialOf(newer - 1)] as RootMaterial[]
    if (root && before) links.push(link(root, before))
  }
  return { ...current.authority, chain: [...links, ...(materialOf(first)?.authority.chain ?? [])] }
}

function link({ root: { version }, authority }: RootMaterial, before: RootMaterial): string {
  const publicKey = createPublicKey(authority.privateKey)
  const der = issueCertificate(
    {
      subject: rootName(version),
      issuer: before.authority.name,
      publicKey,
      validFrom: DEFAULT_NOT_BEFORE,
      validTo: Date.now() + LIFE_MS,
      extensions: [
        basicConstraints(true, ROOT_PATH_LENGTH),
        keyUsage('digitalSignature', 'keyCertSign', 'cRLSign'),
        subjectKeyIdentifier(publicKey),
        ...authorityIdentifier(before.authority),
      ],
    },
    before.authority.privateKey,
  )
  return certificatePem(der)
}
