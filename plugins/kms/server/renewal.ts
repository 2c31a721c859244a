import { type KeyObject, randomBytes, sign } from 'node:crypto'
import { join } from 'node:path'
import { writeFileAtomic } from '../../../src/files/atomic-file.ts'
import { type Certificate, isIssuedBy, parseCertificate } from '../../../src/x509/certificate.ts'
import { DerReader, TAG } from '../../../src/x509/der-read.ts'
import { bitString, type Der, integer, sequence, time } from '../../../src/x509/der-write.ts'
import { certificatePem } from '../../../src/x509/issue.ts'
import { readPem } from '../../../src/x509/pem.ts'
import { TEN_YEARS_MS } from '../certificates/authority.ts'
import { versionCertificate } from './root-file-names.ts'
import type { Roots } from './root-set.ts'

/** What {@link renewCertificates} did, by names of files. */
export interface Renewal {
  /** Written anew. */
  readonly renewed: readonly string[]
  /** About to end, or ended, and signed by somebody else, who has to sign them again. */
  readonly left: readonly string[]
}

const YEAR_MS = 365 * 24 * 3600 * 1000

/**
 * Writes certificates of authorities anew that end within a year, for the same keys (spec dstack
 * §9.5): what was issued under the old one is under the new one, too. To be done at a start, after
 * which the roots are opened again.
 *
 * @param now Unix time in milliseconds.
 * @param replace Writes a file whole or not at all. Tests give one that fails.
 * @throws {Error} The system error; each certificate is the old or the new one.
 */
export async function renewCertificates(
  folder: string,
  roots: Roots,
  now: number,
  replace: typeof writeFileAtomic = writeFileAtomic,
): Promise<Renewal> {
  const renewed: string[] = []
  const left: string[] = []
  for (const { file, pem, key } of authoritiesOf(roots)) {
    const [der = new Uint8Array()] = readPem(pem, 'CERTIFICATE', 1)
    const certificate = parseCertificate(der)
    if (certificate.notAfter - now >= YEAR_MS) continue
    const fresh = reissued(certificate, key, now + TEN_YEARS_MS)
    if (fresh) await replace(join(folder, file), certificatePem(fresh), 0o644)
    const list = fresh ? renewed : left
    list.push(file)
  }
  return { renewed, left }
}

function authoritiesOf(roots: Roots) {
  const { temporaryCa } = roots.current
  const temporary = {
    file: 'tmp-ca.crt',
    pem: temporaryCa.certificate,
    key: temporaryCa.key.privateKey,
  }
  const ofVersions = roots.versions.map((version) => {
    const { chain = [], privateKey } = roots.materialOf(version)?.authority ?? {}
    const file = version === 0 ? 'root-ca.crt' : versionCertificate(version)
    return { file, pem: chain[0] ?? '', key: privateKey as KeyObject }
  })
  return [...ofVersions, temporary]
}

/**
 * A self-signed certificate as it is, name and extensions included, by which others find it, but
 * for its number and its end.
 *
 * @returns DER; undefined where somebody else signed it.
 */
function reissued(
  certificate: Certificate,
  key: KeyObject,
  notAfter: number,
): Uint8Array | undefined {
  const { hash, signed } = certificate
  if (hash === undefined || !isIssuedBy(certificate, certificate)) return undefined
  const old = new DerReader(signed.tbs, 'certificate').enter(TAG.sequence)
  const version = old.read(0xa0).whole
  old.read(TAG.integer)
  const algorithm = old.read(TAG.sequence).whole
  const issuer = old.read(TAG.sequence).whole
  const notBefore = old.enter(TAG.sequence).read().whole
  const rest: Der[] = []
  while (!old.done) rest.push(old.read().whole)
  const tbs = sequence(
    version,
    integer(randomBytes(16)),
    algorithm,
    issuer,
    sequence(notBefore, time(notAfter)),
    ...rest,
  )
  return sequence(tbs, algorithm, bitString(sign(hash, tbs, key)))
}
