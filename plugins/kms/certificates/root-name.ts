import { sameBytes } from '../../../src/attest/hex.ts'
import type { Certificate } from '../../../src/x509/certificate.ts'
import { type DistinguishedName, nameDer } from '../../../src/x509/issue.ts'
import { MAX_ROOT_VERSION } from '../server/root-file-names.ts'

/*
 * Root certificates of a KMS say in their name of which version of the root keys they are: whoever
 * knows several finds an issuer by it. That of version 0 has the name that dstack gives (spec dstack
 * §9.5).
 */

const COMMON_NAME = 'Dstack KMS CA'

/** The name of the root of a version. */
export function rootName(version: number): DistinguishedName {
  const unit = version === 0 ? [] : [['OU', `root version ${version}`] as const]
  return [['O', 'Dstack'], ...unit, ['CN', COMMON_NAME]]
}

const NAMES = Array.from({ length: MAX_ROOT_VERSION + 1 }, (_, version) =>
  nameDer(rootName(version)),
)

/** Of which version a root is by its name. Only version 0 can have been made by another program. */
export function versionOfRoot({ subject }: Pick<Certificate, 'subject'>): number {
  return Math.max(
    0,
    NAMES.findIndex((name) => sameBytes(name, subject.der)),
  )
}

/** Whether it is a root's, which the one before has signed in place of itself. */
export function isRootLink({ subject, issuer }: Certificate): boolean {
  return versionOfRoot({ subject }) > versionOfRoot({ subject: issuer })
}
