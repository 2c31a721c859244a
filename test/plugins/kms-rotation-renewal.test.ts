/** Certificates of authorities that are about to end. */
import assert from 'node:assert/strict'
import { createPublicKey, type KeyObject } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { type Authority, readAuthority } from '../../plugins/kms/certificates/authority.ts'
import { issueLeaf } from '../../plugins/kms/certificates/leaf.ts'
import { p256Key } from '../../plugins/kms/certificates/p256-key.ts'
import { randomP256Scalar } from '../../plugins/kms/derivation/curves.ts'
import { renewCertificates } from '../../plugins/kms/server/renewal.ts'
import {
  createMaterial,
  type RootMaterial,
  randomRootKeys,
} from '../../plugins/kms/server/root-material.ts'
import { createRootKeys } from '../../plugins/kms/server/root-store.ts'
import { openRoots, type Roots } from '../../plugins/kms/server/roots.ts'
import { writeFileAtomic } from '../../src/files/atomic-file.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { octetString } from '../../src/x509/der-write.ts'
import {
  basicConstraints,
  certificatePem,
  extension,
  issueCertificate,
  keyUsage,
  subjectKeyIdentifier,
} from '../../src/x509/issue.ts'
import { verifyPath } from '../../src/x509/path.ts'
import { derOf } from './kms-server-fixtures.ts'

const DAY_MS = 24 * 3600 * 1000
const YEARS_MS = (years: number) => years * 365 * DAY_MS
const NOW = Date.now()
const MARK = '1.3.6.1.4.1.62397.1.4'

function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-test-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** A folder with version 0 and as many later ones. */
async function stored(
  t: TestContext,
  later: number,
  material: RootMaterial = createMaterial(randomRootKeys(), 'kms.example', undefined),
): Promise<string> {
  const folder = temporaryFolder(t)
  const keys = Array.from({ length: later }, (_, i) => randomRootKeys(i + 1))
  await createRootKeys(folder, material, keys)
  return folder
}

async function opened(folder: string): Promise<Roots> {
  const roots = await openRoots(folder)
  assert.ok(roots)
  return roots
}

const renew = async (folder: string, now: number, replace?: typeof writeFileAtomic) =>
  renewCertificates(folder, await opened(folder), now, replace)

const certificatesOf = ({ versions, materialOf, current }: Roots) =>
  [
    ...versions.map((version) => materialOf(version)?.authority.chain[0] ?? ''),
    current.temporaryCa.certificate,
  ].map((pem) => parseCertificate(derOf(pem)))

/** As another program may have made it: names in another order, an extension more. */
function foreignRoot(privateKey: KeyObject, issuer: KeyObject, validTo: number): Authority {
  const publicKey = createPublicKey(privateKey)
  const name = [
    ['CN', 'Dstack KMS CA'],
    ['O', 'Dstack'],
  ] as const
  const der = issueCertificate(
    {
      subject: name,
      issuer: issuer === privateKey ? name : [['CN', 'Company']],
      publicKey,
      validFrom: Date.UTC(2020, 0, 1),
      validTo,
      extensions: [
        basicConstraints(true),
        keyUsage('keyCertSign'),
        subjectKeyIdentifier(publicKey),
        extension(MARK, false, octetString(Buffer.from('kms:root'))),
      ],
    },
    issuer,
  )
  return readAuthority(certificatePem(der), privateKey)
}

const LEAF = { subject: 'a.example', altNames: [], serverAuth: true, clientAuth: false }

function leafOf(authority: Authority) {
  const [pem = ''] = issueLeaf(authority, p256Key(randomP256Scalar()), LEAF, [])
  return parseCertificate(derOf(pem))
}

describe('certificates of authorities', () => {
  test('are left as they are until a year before their end', async (t) => {
    const folder = await stored(t, 1)
    const before = readdirSync(folder).map((name) => readFileSync(join(folder, name), 'hex'))
    for (const now of [NOW, NOW + YEARS_MS(9) - DAY_MS]) {
      assert.deepEqual(await renew(folder, now), { renewed: [], left: [] })
    }
    const after = readdirSync(folder).map((name) => readFileSync(join(folder, name), 'hex'))
    assert.deepEqual(after, before)
  })

  test('are made anew for the same keys, whose files nobody touches', async (t) => {
    const folder = await stored(t, 2)
    const old = await opened(folder)
    const secrets = readdirSync(folder).filter((name) => /\.key$|\.json$/.test(name))
    const before = secrets.map((name) => readFileSync(join(folder, name), 'hex'))
    const later = NOW + YEARS_MS(9) + DAY_MS
    const files = ['root-ca.crt', 'root-v1.crt', 'root-v2.crt', 'tmp-ca.crt']
    assert.deepEqual(await renew(folder, later), { renewed: files, left: [] })
    const fresh = await opened(folder)
    for (const [i, certificate] of certificatesOf(fresh).entries()) {
      const earlier = certificatesOf(old)[i]
      assert.ok(earlier)
      assert.deepEqual(certificate.spki, earlier.spki)
      assert.deepEqual(certificate.subject.der, earlier.subject.der)
      assert.notDeepEqual(certificate.serial, earlier.serial)
      assert.equal(certificate.notBefore, earlier.notBefore)
      assert.ok(Math.abs(certificate.notAfter - later - YEARS_MS(10)) <= 1000)
      verifyPath([certificate], certificate, later + YEARS_MS(9))
    }
    for (const version of fresh.versions) {
      assert.deepEqual(fresh.of(version), old.of(version))
      const [oldRoot, newRoot] = [old, fresh].map((roots) => certificatesOf(roots)[version])
      assert.ok(oldRoot && newRoot)
      const issued = leafOf((old.materialOf(version) as RootMaterial).authority)
      verifyPath([issued], newRoot, NOW)
      verifyPath([leafOf((fresh.materialOf(version) as RootMaterial).authority)], oldRoot, NOW)
    }
    assert.deepEqual(
      secrets.map((name) => readFileSync(join(folder, name), 'hex')),
      before,
    )
    for (const name of files) assert.equal(statSync(join(folder, name)).mode & 0o777, 0o644)
    assert.deepEqual(await renew(folder, later), { renewed: [], left: [] })
  })

  test('that ended already are, too', async (t) => {
    const folder = await stored(t, 0)
    const { renewed } = await renew(folder, NOW + YEARS_MS(50))
    assert.deepEqual(renewed, ['root-ca.crt', 'tmp-ca.crt'])
  })

  test('of another program keep what it wrote', async (t) => {
    const plain = createMaterial(randomRootKeys(), 'kms.example', undefined)
    const { privateKey } = plain.authority
    const authority = foreignRoot(privateKey, privateKey, NOW + 30 * DAY_MS)
    const folder = await stored(t, 0, { ...plain, authority })
    assert.deepEqual(await renew(folder, NOW), { renewed: ['root-ca.crt'], left: [] })
    const [fresh] = certificatesOf(await opened(folder))
    const old = parseCertificate(derOf(authority.chain[0] ?? ''))
    assert.ok(fresh)
    assert.deepEqual(fresh.subject.der, old.subject.der)
    for (const oid of [MARK, '2.5.29.14', '2.5.29.15', '2.5.29.19']) {
      assert.deepEqual(fresh.extension(oid), old.extension(oid), oid)
    }
    assert.ok(fresh.notAfter > NOW + YEARS_MS(9))
    verifyPath([leafOf(authority)], fresh, NOW)
  })

  test('that somebody else signed are for him to sign again', async (t) => {
    const plain = createMaterial(randomRootKeys(), 'kms.example', undefined)
    const company = p256Key(randomP256Scalar())
    const soon = NOW + 30 * DAY_MS
    const authority = foreignRoot(plain.authority.privateKey, company.privateKey, soon)
    const folder = await stored(t, 0, { ...plain, authority })
    assert.deepEqual(await renew(folder, NOW), { renewed: [], left: ['root-ca.crt'] })
    assert.equal(readFileSync(join(folder, 'root-ca.crt'), 'utf8'), authority.chain[0])
  })
})

describe('a renewal', () => {
  test('that is cut off leaves certificates that are usable, and is made up for', async (t) => {
    const later = NOW + YEARS_MS(9.5)
    for (let number = 1; number <= 4; number++) {
      const folder = await stored(t, 2)
      let count = 0
      const replace: typeof writeFileAtomic = async (...args) => {
        count += 1
        if (count === number) throw new Error('killed')
        await writeFileAtomic(...args)
      }
      await assert.rejects(renew(folder, later, replace), { message: 'killed' })
      assert.equal((await opened(folder)).versions.length, 3)
      assert.equal((await renew(folder, later)).renewed.length, 5 - number)
      assert.deepEqual(await renew(folder, later), { renewed: [], left: [] })
    }
  })

  test('that is lost gives the certificate back that was made with the keys', async (t) => {
    const folder = await stored(t, 1)
    const [, before] = certificatesOf(await opened(folder))
    await renew(folder, NOW + YEARS_MS(9.5))
    rmSync(join(folder, 'root-v1.crt'))
    const [, after] = certificatesOf(await opened(folder))
    assert.deepEqual(after?.der, before?.der)
  })

  test('that is damaged, or of another version, is not used', async (t) => {
    const folder = await stored(t, 2)
    await renew(folder, NOW + YEARS_MS(9.5))
    const path = join(folder, 'root-v1.crt')
    const other = readFileSync(join(folder, 'root-v2.crt'), 'utf8')
    const whole = readFileSync(path, 'utf8')
    const bent = Buffer.from(derOf(whole))
    bent[bent.length - 1] = (bent.at(-1) ?? 0) ^ 1
    for (const content of ['', 'x', other, certificatePem(bent)]) {
      writeFileSync(path, content)
      await assert.rejects(openRoots(folder), { code: 'ROOT_KEYS_UNUSABLE' })
    }
    writeFileSync(path, whole)
    assert.ok(await openRoots(folder))
    rmSync(join(folder, 'root-v1.json'))
    await assert.rejects(openRoots(folder), { code: 'ROOT_KEYS_INCOMPLETE' })
  })
})
