/** The root keys of a KMS in a folder: what is written, what is refused, what a crash leaves. */
import assert from 'node:assert/strict'
import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { link, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { publicKeyOf } from '../../plugins/kms/derivation/curves.ts'
import { createFile } from '../../plugins/kms/server/create-file.ts'
import { checkDomain, ROOT_FILES } from '../../plugins/kms/server/root-files.ts'
import {
  createMaterial,
  type RootMaterial,
  randomRootKeys,
} from '../../plugins/kms/server/root-material.ts'
import {
  createRootKeys,
  openRootKeys,
  type StoreSteps,
} from '../../plugins/kms/server/root-store.ts'
import { integer, octetString, oid, sequence } from '../../src/x509/der-write.ts'
import { pemBlock } from '../../src/x509/issue.ts'
import { hex } from './kms-fixtures.ts'

function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-test-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** As Bootstrap makes them. */
function bootstrapped(domain = 'kms.example'): RootMaterial {
  const root = randomRootKeys()
  const plain = createMaterial(root, domain, undefined)
  const caPublicKey = new X509Certificate(plain.authority.chain[0] ?? '').publicKey.export({
    type: 'spki',
    format: 'der',
  })
  const info = {
    caPublicKey: new Uint8Array(caPublicKey),
    k256PublicKey: publicKeyOf('secp256k1', root.k256),
    attestation: Uint8Array.of(1, 2, 3),
  }
  return { ...plain, info }
}

/** What two materials have to have in common to be the same. */
function shown({ root, authority, temporaryCa, domain, info }: RootMaterial): unknown {
  return {
    root: [root.version, hex(root.ca), hex(root.k256)],
    certificates: [authority.chain, temporaryCa.certificate],
    temporary: temporaryCa.key.pem,
    domain,
    info: info && [info.caPublicKey, info.k256PublicKey, info.attestation].map(hex),
  }
}

/** A key of secp256k1 (SEC 2 §2.4.1), which is as long as one of P-256. */
function otherCurve(): string {
  const version = (n: number) => integer(Uint8Array.of(n))
  const key = sequence(version(1), octetString(new Uint8Array(32).fill(7)))
  const algorithm = sequence(oid('1.2.840.10045.2.1'), oid('1.3.132.0.10'))
  return pemBlock('PRIVATE KEY', sequence(version(0), algorithm, octetString(key)))
}

const code = (expected: string) => (error: unknown) =>
  (error as { name: string }).name === 'RootStoreError' &&
  (error as { code: string }).code === expected

describe('root keys', () => {
  test('come back from their folder as they were written, with and without info', async (t) => {
    for (const material of [bootstrapped(), { ...bootstrapped('2001:db8::7'), info: undefined }]) {
      const folder = join(temporaryFolder(t), 'etc', 'kms')
      assert.equal(await openRootKeys(folder), undefined, 'no folder is no keys')
      await createRootKeys(folder, material)
      const opened = await openRootKeys(folder)
      assert.ok(opened)
      assert.deepEqual(shown(opened), shown(material))
      assert.equal(statSync(folder).mode & 0o777, 0o700)
      const names = ROOT_FILES.filter((file) => file.required || material.info)
      assert.deepEqual(readdirSync(folder).sort(), names.map(({ name }) => name).sort())
      for (const { name, secret } of names) {
        const mode = statSync(join(folder, name)).mode & 0o777
        assert.equal(mode, secret ? 0o600 : 0o644, name)
      }
    }
  })

  test('are in the files in the forms of dstack', async (t) => {
    const folder = temporaryFolder(t)
    const material = bootstrapped()
    await createRootKeys(folder, material)
    const read = (name: string) => readFileSync(join(folder, name))
    assert.deepEqual(new Uint8Array(read('root-k256.key')), material.root.k256)
    for (const [name, subject] of [
      ['root-ca.crt', 'Dstack KMS CA'],
      ['tmp-ca.crt', 'Dstack Client Temp CA'],
    ] as const) {
      const certificate = new X509Certificate(read(name))
      assert.equal(certificate.subject, `O=Dstack\nCN=${subject}`)
      assert.ok(certificate.ca && certificate.verify(certificate.publicKey))
    }
    assert.match(read('root-ca.key').toString(), /^-----BEGIN PRIVATE KEY-----\n/)
    assert.equal(read('rpc-domain').toString(), 'kms.example')
    const info = JSON.parse(read('bootstrap-info.json').toString())
    assert.deepEqual(Object.keys(info), ['ca_pubkey', 'k256_pubkey', 'attestation'])
    assert.equal(info.attestation, '010203')
  })

  test('are never overwritten, whichever of their files is there', async (t) => {
    for (const { name } of [...ROOT_FILES, { name: 'root-keys.pending' }]) {
      const folder = temporaryFolder(t)
      writeFileSync(join(folder, name), 'of somebody else', { mode: 0o600 })
      await assert.rejects(createRootKeys(folder, bootstrapped()), code('ROOT_KEYS_EXIST'))
      assert.deepEqual(readdirSync(folder), [name])
      assert.equal(readFileSync(join(folder, name), 'utf8'), 'of somebody else')
    }
  })

  test('are written once when two want to', async (t) => {
    for (let round = 0; round < 5; round++) {
      const folder = temporaryFolder(t)
      const both = [bootstrapped('one.example'), bootstrapped('two.example')]
      const done = await Promise.allSettled(both.map((one) => createRootKeys(folder, one)))
      const winners = both.filter((_, i) => done[i]?.status === 'fulfilled')
      assert.equal(winners.length, 1)
      const opened = await openRootKeys(folder)
      assert.deepEqual(opened && shown(opened), winners[0] && shown(winners[0]))
    }
  })

  test('with a file lost are not used, and nothing is made up for it', async (t) => {
    for (const { name, required } of ROOT_FILES) {
      const folder = temporaryFolder(t)
      await createRootKeys(folder, bootstrapped())
      rmSync(join(folder, name))
      if (required) {
        await assert.rejects(openRootKeys(folder), (error: Error) => {
          return code('ROOT_KEYS_INCOMPLETE')(error) && error.message.includes(name)
        })
      } else {
        assert.equal((await openRootKeys(folder))?.info, undefined)
      }
      await assert.rejects(createRootKeys(folder, bootstrapped()), code('ROOT_KEYS_EXIST'))
    }
  })

  test('that do not belong together are not used', async (t) => {
    const [one, other] = [temporaryFolder(t), temporaryFolder(t)]
    await createRootKeys(one, bootstrapped())
    await createRootKeys(other, bootstrapped())
    for (const { name } of ROOT_FILES) {
      if (name === 'rpc-domain') continue
      const [path, before] = [join(one, name), readFileSync(join(one, name))]
      writeFileSync(path, readFileSync(join(other, name)))
      await assert.rejects(openRootKeys(one), code('ROOT_KEYS_UNUSABLE'), name)
      writeFileSync(path, before)
    }
    assert.ok(await openRootKeys(one))
  })

  test('damaged, of another curve or open to others are not used, nor quoted', async (t) => {
    const folder = temporaryFolder(t)
    await createRootKeys(folder, bootstrapped())
    const larger = generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey
    const keys = [larger.export({ type: 'pkcs8', format: 'pem' }).toString(), otherCurve()]
    for (const { name } of ROOT_FILES) {
      const path = join(folder, name)
      const before = readFileSync(path)
      const wrong = ['', 'SECRET!', '-----BEGIN PRIVATE KEY-----\nSECRET', '{"SECRET":1}']
      for (const content of [...wrong, '[['.repeat(1000), ...keys]) {
        writeFileSync(path, content)
        await assert.rejects(openRootKeys(folder), (error: Error) => {
          return code('ROOT_KEYS_UNUSABLE')(error) && !error.message.includes('SECRET')
        })
      }
      writeFileSync(path, before)
    }
    for (const { name, secret } of ROOT_FILES) {
      chmodSync(join(folder, name), 0o640)
      if (secret) await assert.rejects(openRootKeys(folder), code('ROOT_KEYS_UNUSABLE'), name)
      else assert.ok(await openRootKeys(folder))
      chmodSync(join(folder, name), secret ? 0o600 : 0o644)
    }
  })
})

describe('a process that ends', () => {
  /** Steps of which the one with this number does not happen, or is the last to happen. */
  function endingAt(number: number, when: 'before' | 'after'): StoreSteps {
    let count = 0
    const step = async (work: () => Promise<void>) => {
      count += 1
      if (count > number || (count === number && when === 'before')) throw new Error('killed')
      await work()
      if (count === number) throw new Error('killed')
    }
    return {
      create: (path, bytes, mode) => step(() => createFile(path, bytes, mode)),
      remove: (path) => step(() => rm(path)),
    }
  }

  test('at any step leaves all of the keys or none, and the next start has them', async (t) => {
    const steps = 1 + ROOT_FILES.length + 1
    let none = 0
    for (let number = 1; number <= steps; number++) {
      for (const when of ['before', 'after'] as const) {
        const folder = temporaryFolder(t)
        const material = bootstrapped()
        const killed = createRootKeys(folder, material, [], endingAt(number, when))
        await assert.rejects(killed, { message: 'killed' })
        const opened = await openRootKeys(folder)
        if (!opened) {
          none += 1
          assert.deepEqual(readdirSync(folder), [])
          await createRootKeys(folder, material)
          continue
        }
        assert.deepEqual(shown(opened), shown(material))
        assert.equal(readdirSync(folder).length, ROOT_FILES.length)
        await assert.rejects(createRootKeys(folder, bootstrapped()), code('ROOT_KEYS_EXIST'))
      }
    }
    assert.equal(none, 1, 'only before its first step')
    const folder = temporaryFolder(t)
    await createRootKeys(folder, bootstrapped(), [], endingAt(steps + 1, 'before'))
  })

  test('while the one after it makes up for that, too', async (t) => {
    const folder = temporaryFolder(t)
    const material = bootstrapped()
    await assert.rejects(createRootKeys(folder, material, [], endingAt(2, 'before')))
    for (let number = 1; number <= ROOT_FILES.length + 1; number++) {
      await assert.rejects(openRootKeys(folder, endingAt(2, 'before')))
    }
    const opened = await openRootKeys(folder)
    assert.deepEqual(opened && shown(opened), shown(material))
  })

  test('keeps what is pending from a folder that has got other keys since', async (t) => {
    const [folder, other] = [temporaryFolder(t), temporaryFolder(t)]
    await assert.rejects(createRootKeys(folder, bootstrapped(), [], endingAt(2, 'before')))
    await createRootKeys(other, bootstrapped())
    const theirs = readFileSync(join(other, 'root-k256.key'))
    writeFileSync(join(folder, 'root-k256.key'), theirs, { mode: 0o600 })
    await assert.rejects(openRootKeys(folder), code('ROOT_KEYS_UNUSABLE'))
    assert.deepEqual(readFileSync(join(folder, 'root-k256.key')), theirs)
  })

  test('leaves pending keys that are read as suspiciously as others', async (t) => {
    for (const content of ['', '{}', '{"files":[["../../etc/passwd","AAAA"]]}', '{"files":[1]}']) {
      const folder = temporaryFolder(t)
      writeFileSync(join(folder, 'root-keys.pending'), content, { mode: 0o600 })
      await assert.rejects(openRootKeys(folder), code('ROOT_KEYS_UNUSABLE'), content)
      assert.deepEqual(readdirSync(folder), ['root-keys.pending'])
    }
  })
})

test('a file is made whole, with its mode, and takes no other file’s place', async (t) => {
  const folder = temporaryFolder(t)
  const path = join(folder, 'one')
  await createFile(path, Uint8Array.of(1), 0o600)
  await assert.rejects(createFile(path, Uint8Array.of(2), 0o644), { code: 'EEXIST' })
  await link(path, join(folder, 'two'))
  await assert.rejects(createFile(join(folder, 'two'), Uint8Array.of(3), 0o644), { code: 'EEXIST' })
  await assert.rejects(createFile(join(folder, 'no/where'), Uint8Array.of(3), 0o644), {
    code: 'ENOENT',
  })
  assert.deepEqual(readdirSync(folder).sort(), ['one', 'two'])
  assert.deepEqual([...readFileSync(path)], [1])
  assert.equal(statSync(path).mode & 0o777, 0o600)
})

test('domains are names or addresses of either kind', () => {
  const fine = ['kms.example', 'a', 'xn--bcher-kva.example', '192.0.2.7', '2001:db8::7', '::1']
  for (const domain of fine) assert.equal(checkDomain(domain), domain)
  const empty = 'domain must be a non-empty ASCII DNS name of at most 253 bytes'
  for (const domain of ['', 'a'.repeat(254), 'büro.example', 'a b', 'a\n', 'fe80::1%eth0']) {
    const label = domain.includes('%') ? 'domain contains an invalid DNS label' : empty
    assert.throws(() => checkDomain(domain), { message: label })
  }
  for (const domain of [
    'a..b',
    '.a',
    'a.',
    '-a',
    'a-',
    `${'a'.repeat(64)}.b`,
    'a_b',
    'a:1',
    '*.a',
  ]) {
    assert.throws(() => checkDomain(domain), { message: 'domain contains an invalid DNS label' })
  }
  fc.assert(
    fc.property(fc.string({ maxLength: 300 }), (domain) => {
      try {
        assert.match(checkDomain(domain), /^[0-9a-z.:-]{1,253}$/i)
      } catch (error) {
        assert.match((error as Error).message, /^domain /)
      }
    }),
  )
})
