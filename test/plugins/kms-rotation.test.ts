/** Versions of root keys in a folder: how they are added, used and shared, and what a crash leaves. */
import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import {
  chmodSync,
  copyFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import fc from 'fast-check'
import {
  appCaScalar,
  appRootKey,
  diskKey,
  envKey,
  type RootKeys,
} from '../../plugins/kms/derivation/kms-keys.ts'
import { createFile } from '../../plugins/kms/server/create-file.ts'
import { ROOT_FILES } from '../../plugins/kms/server/root-files.ts'
import {
  createMaterial,
  type RootMaterial,
  randomRootKeys,
} from '../../plugins/kms/server/root-material.ts'
import { createRootKeys, type StoreSteps } from '../../plugins/kms/server/root-store.ts'
import {
  addRootVersion,
  adoptRootVersions,
  clearRoots,
  openRoots,
  type Roots,
  rootsFrom,
  useRootVersion,
} from '../../plugins/kms/server/roots.ts'
import { writeFileAtomic } from '../../src/files/atomic-file.ts'
import { hex } from './kms-fixtures.ts'

function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-test-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

const material = (root = randomRootKeys()): RootMaterial =>
  createMaterial(root, 'kms.example', undefined)

/** A folder with version 0 and as many later ones. */
async function withVersions(t: TestContext, later: number, root?: RootKeys): Promise<string> {
  const folder = temporaryFolder(t)
  await createRootKeys(folder, material(root))
  for (let version = 1; version <= later; version++) {
    assert.equal(await addRootVersion(folder), version)
  }
  return folder
}

async function opened(folder: string): Promise<Roots> {
  const roots = await openRoots(folder)
  assert.ok(roots)
  return roots
}

/** Everything that is secret, and which version is answered. */
const shown = (roots: Roots): unknown => ({
  current: roots.current.root.version,
  // Signed: damage shows.
  issuable: roots.versions.map((version) => {
    const certificate = new X509Certificate(roots.materialOf(version)?.authority.chain[0] ?? '')
    return certificate.verify(certificate.publicKey)
  }),
  keys: keysOf(roots).map(({ version, ca, k256 }) => [version, hex(ca), hex(k256)]),
})

const keysOf = (roots: Roots): RootKeys[] =>
  roots.versions.map((version) => roots.of(version) as RootKeys)

const copyOf = (keys: readonly RootKeys[]): RootKeys[] =>
  keys.map(({ version, ca, k256 }) => ({
    version,
    ca: Uint8Array.from(ca),
    k256: Uint8Array.from(k256),
  }))

const code =
  (expected: string, text = '') =>
  (error: unknown) => {
    const { name, code: found, message } = error as Error & { code: string }
    assert.deepEqual([name, found], ['RootStoreError', expected], String(error))
    assert.ok(message.includes(text), message)
    return true
  }

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

describe('a version of root keys', () => {
  test('is made beside the others, and answered once it is used', async (t) => {
    const folder = await withVersions(t, 0)
    const names = readdirSync(folder)
    const before = names.map((name) => readFileSync(join(folder, name), 'hex'))
    const first = await opened(folder)
    assert.deepEqual(first.versions, [0])
    assert.equal(await addRootVersion(folder), 1)
    assert.equal(await addRootVersion(folder), 2)
    const prepared = await opened(folder)
    assert.deepEqual([prepared.versions, prepared.current.root.version], [[0, 1, 2], 0])
    await useRootVersion(folder, 2)
    const used = await opened(folder)
    assert.equal(used.current.root.version, 2)
    assert.deepEqual(keysOf(used), keysOf(prepared))
    assert.equal(used.current, used.materialOf(2))
    assert.deepEqual([used.of(3), used.of(-1), used.of(0.5)], [undefined, undefined, undefined])
    await useRootVersion(folder, 0)
    assert.deepEqual(shown(await opened(folder)), shown(prepared))
    assert.deepEqual(
      names.map((name) => readFileSync(join(folder, name), 'hex')),
      before,
      'version 0 stays as it was',
    )
    const added = readdirSync(folder).filter((name) => !names.includes(name))
    assert.deepEqual(added.sort(), ['root-current', 'root-v1.json', 'root-v2.json'])
    for (const name of added) assert.equal(statSync(join(folder, name)).mode & 0o777, 0o600, name)
  })

  test('has an authority and keys of its own; domain and temporary authority are shared', async (t) => {
    const roots = await opened(await withVersions(t, 2))
    const materials = roots.versions.map((version) => roots.materialOf(version) as RootMaterial)
    const subjects = materials.map(({ authority, root }) => {
      const certificate = new X509Certificate(authority.chain[0] ?? '')
      assert.ok(certificate.ca && certificate.verify(certificate.publicKey))
      assert.ok(certificate.checkPrivateKey(authority.privateKey))
      assert.equal(root, roots.of(root.version))
      return certificate.subject.split('\n').join(' ')
    })
    assert.deepEqual(subjects, [
      'O=Dstack CN=Dstack KMS CA',
      'O=Dstack OU=root version 1 CN=Dstack KMS CA',
      'O=Dstack OU=root version 2 CN=Dstack KMS CA',
    ])
    const secrets = keysOf(roots).flatMap(({ ca, k256 }) => [hex(ca), hex(k256)])
    assert.equal(new Set(secrets).size, 6)
    for (const { temporaryCa, domain } of materials) {
      assert.deepEqual([temporaryCa, domain], [materials[0]?.temporaryCa, 'kms.example'])
    }
  })

  test('that there is not is not used', async (t) => {
    const folder = await withVersions(t, 1)
    for (const version of [2, -1, 0.5, Number.NaN, 1e9]) {
      await assert.rejects(useRootVersion(folder, version), code('ROOT_VERSION_UNKNOWN', '0, 1'))
    }
    assert.ok(!readdirSync(folder).includes('root-current'))
    const empty = temporaryFolder(t)
    for (const change of [() => addRootVersion(empty), () => useRootVersion(empty, 0)]) {
      await assert.rejects(change(), code('ROOT_VERSION_UNKNOWN', 'no root keys'))
    }
    assert.deepEqual(readdirSync(empty), [])
  })

  test('is made once when two want to', async (t) => {
    for (let round = 0; round < 5; round++) {
      const folder = await withVersions(t, 0)
      const done = await Promise.allSettled([addRootVersion(folder), addRootVersion(folder)])
      const { versions } = await opened(folder)
      const made = done.filter(({ status }) => status === 'fulfilled').length
      assert.equal(versions.length, made + 1)
      for (const one of done) {
        if (one.status === 'rejected') code('ROOT_KEYS_EXIST', 'root-v1.json')(one.reason)
      }
    }
  })

  test('can be no more than a hundred', async (t) => {
    const folder = temporaryFolder(t)
    const later = Array.from({ length: 99 }, (_, i) => randomRootKeys(i + 1))
    await createRootKeys(folder, material(), later)
    await assert.rejects(addRootVersion(folder), code('ROOT_VERSIONS_FULL', '100'))
    assert.equal((await opened(folder)).versions.length, 100)
    const more = createRootKeys(temporaryFolder(t), material(), [...later, randomRootKeys(100)])
    await assert.rejects(more, RangeError)
  })

  test('that was overwritten in memory gives no keys, which anybody could compute', async (t) => {
    const roots = await opened(await withVersions(t, 1))
    const keys = keysOf(roots)
    clearRoots(roots)
    const id = new Uint8Array(20)
    for (const root of keys) {
      assert.ok([...root.ca, ...root.k256].every((byte) => byte === 0))
      for (const derive of [appCaScalar, appRootKey, envKey]) {
        assert.throws(() => derive(root, id), /the root keys are not held any more/)
      }
      assert.throws(() => diskKey(root, id, id), /the root keys are not held any more/)
    }
  })

  test('has its place among the others', () => {
    const materials = [0, 1, 2].map((version) => material(randomRootKeys(version)))
    assert.equal(rootsFrom(materials, 1).current, materials[1])
    assert.throws(() => rootsFrom(materials, 3), RangeError)
    assert.throws(() => rootsFrom([]), RangeError)
    assert.throws(() => rootsFrom(materials.slice(1)), RangeError)
  })
})

describe('files of versions', () => {
  test('that are lost are not made up for', async (t) => {
    const folder = await withVersions(t, 3)
    await useRootVersion(folder, 3)
    for (const name of ['root-v1.json', 'root-v2.json', 'root-v3.json']) {
      const away = join(temporaryFolder(t), name)
      copyFileSync(join(folder, name), away)
      rmSync(join(folder, name))
      await assert.rejects(openRoots(folder), code('ROOT_KEYS_INCOMPLETE', `${name} missing`))
      await assert.rejects(addRootVersion(folder), code('ROOT_KEYS_INCOMPLETE'))
      copyFileSync(away, join(folder, name))
      chmodSync(join(folder, name), 0o600)
    }
    rmSync(join(folder, 'root-current'))
    assert.equal((await opened(folder)).current.root.version, 0)
    for (const { name } of ROOT_FILES) rmSync(join(folder, name), { force: true })
    await assert.rejects(openRoots(folder), code('ROOT_KEYS_INCOMPLETE', 'root-ca.key'))
    await assert.rejects(createRootKeys(folder, material()), code('ROOT_KEYS_EXIST'))
  })

  test('that are damaged, open to others or in the wrong place are not used, nor quoted', async (t) => {
    const folder = await withVersions(t, 2)
    await useRootVersion(folder, 1)
    for (const name of ['root-v1.json', 'root-v2.json', 'root-current']) {
      const path = join(folder, name)
      const before = readFileSync(path)
      for (const content of ['', 'SECRET', '{"SECRET":1}', '[]', '[['.repeat(1000), '1.0', '100']) {
        writeFileSync(path, content)
        await assert.rejects(openRoots(folder), (error: Error) => {
          assert.ok(!error.message.includes('SECRET'))
          return code('ROOT_KEYS_UNUSABLE', name)(error)
        })
      }
      writeFileSync(path, before)
      chmodSync(path, 0o640)
      await assert.rejects(openRoots(folder), code('ROOT_KEYS_UNUSABLE', 'others have access'))
      chmodSync(path, 0o600)
    }
    const [one, two] = [join(folder, 'root-v1.json'), join(folder, 'root-v2.json')]
    renameSync(one, `${one}.away`)
    copyFileSync(two, one)
    await assert.rejects(openRoots(folder), code('ROOT_KEYS_UNUSABLE', 'of another version'))
    const other = await withVersions(t, 1)
    copyFileSync(join(other, 'root-v1.json'), one)
    await assert.rejects(openRoots(folder), code('ROOT_KEYS_UNUSABLE', 'of another KMS'))
    renameSync(`${one}.away`, one)
    assert.equal((await opened(folder)).current.root.version, 1)
  })

  test('give the keys that were written, or none, whatever happens to their bytes', async (t) => {
    const folder = await withVersions(t, 1)
    const expected = shown(await opened(folder))
    const path = join(folder, 'root-v1.json')
    const before = readFileSync(path)
    let refused = 0
    await fc.assert(
      fc.asyncProperty(
        fc.nat(before.length - 1),
        fc.integer({ min: 1, max: 255 }),
        async (at, bits) => {
          const damaged = Buffer.from(before)
          damaged[at] = (damaged[at] ?? 0) ^ bits
          writeFileSync(path, damaged)
          try {
            assert.deepEqual(shown(await opened(folder)), expected)
          } catch (error) {
            code('ROOT_KEYS_UNUSABLE')(error)
            refused += 1
          }
        },
      ),
      { numRuns: 60 },
    )
    assert.ok(refused > 0)
  })

  test('of others are left alone', async (t) => {
    const folder = await withVersions(t, 1)
    const expected = shown(await opened(folder))
    for (const name of ['root-v0.json', 'root-v01.json', 'root-v1.json.bak', 'root-v100.json']) {
      writeFileSync(join(folder, name), 'mine')
    }
    assert.deepEqual(shown(await opened(folder)), expected)
    for (const name of readdirSync(folder).filter((one) => /v0|bak|100/.test(one))) {
      assert.equal(readFileSync(join(folder, name), 'utf8'), 'mine')
    }
  })
})

describe('a KMS of a cluster', () => {
  test('gets all versions at once when it joins, and the current one', async (t) => {
    const source = await opened(await withVersions(t, 2))
    const folder = temporaryFolder(t)
    const [first, ...later] = copyOf(keysOf(source)) as [RootKeys, ...RootKeys[]]
    await createRootKeys(folder, material(first), later, undefined, 2)
    const joined = await opened(folder)
    assert.deepEqual(keysOf(joined), keysOf(source))
    assert.equal(joined.current.root.version, 2)
    for (const wrong of [
      [[...later].reverse(), 0],
      [later.slice(1), 0],
      [later, 3],
      [later, -1],
    ] as const) {
      const work = createRootKeys(temporaryFolder(t), material(), wrong[0], undefined, wrong[1])
      await assert.rejects(work, RangeError)
    }
  })

  test('adopts the versions it lacks, once', async (t) => {
    const root = randomRootKeys()
    const source = await opened(await withVersions(t, 3, root))
    const folder = await withVersions(t, 0, root)
    assert.deepEqual(await adoptRootVersions(folder, keysOf(source).slice(0, 2)), [1])
    assert.deepEqual(await adoptRootVersions(folder, keysOf(source)), [2, 3])
    assert.deepEqual(await adoptRootVersions(folder, keysOf(source)), [])
    assert.deepEqual(await adoptRootVersions(folder, keysOf(source).slice(0, 1)), [])
    assert.deepEqual(shown(await opened(folder)), shown(source))
  })

  test('adopts nothing where a version differs, or one is left out', async (t) => {
    const root = randomRootKeys()
    const source = keysOf(await opened(await withVersions(t, 2, root)))
    const folder = await withVersions(t, 1, root)
    const before = readdirSync(folder)
    await assert.rejects(
      adoptRootVersions(folder, source),
      code('ROOT_VERSION_DIFFERS', 'version 1 differs'),
    )
    const foreign = keysOf(await opened(await withVersions(t, 2)))
    await assert.rejects(
      adoptRootVersions(folder, foreign),
      code('ROOT_VERSION_DIFFERS', 'of another KMS'),
    )
    const [zero, one, two] = source as [RootKeys, RootKeys, RootKeys]
    for (const wrong of [[], [one, two], [zero, two], [zero, zero]]) {
      await assert.rejects(adoptRootVersions(folder, wrong), code('ROOT_KEYS_INCOMPLETE'))
    }
    assert.deepEqual(readdirSync(folder), before)
  })
})

describe('a process that ends', () => {
  test('while it adds a version has added it or not', async (t) => {
    for (const [when, versions] of [
      ['before', [0]],
      ['after', [0, 1]],
    ] as const) {
      const folder = await withVersions(t, 0)
      await assert.rejects(addRootVersion(folder, endingAt(1, when)), { message: 'killed' })
      assert.deepEqual((await opened(folder)).versions, versions)
    }
  })

  test('while it uses a version has the one before or this one', async (t) => {
    const folder = await withVersions(t, 1)
    const killed = new Error('killed')
    const before = async () => {
      throw killed
    }
    await assert.rejects(useRootVersion(folder, 1, before), killed)
    assert.equal((await opened(folder)).current.root.version, 0)
    const after: typeof writeFileAtomic = async (...args) => {
      await writeFileAtomic(...args)
      throw killed
    }
    await assert.rejects(useRootVersion(folder, 1, after), killed)
    assert.equal((await opened(folder)).current.root.version, 1)
  })

  test('while it adopts versions goes on with the next attempt', async (t) => {
    const root = randomRootKeys()
    const source = await opened(await withVersions(t, 3, root))
    for (let number = 1; number <= 3; number++) {
      for (const when of ['before', 'after'] as const) {
        const folder = await withVersions(t, 0, root)
        const steps = endingAt(number, when)
        await assert.rejects(adoptRootVersions(folder, keysOf(source), steps), {
          message: 'killed',
        })
        const done = when === 'after' ? number : number - 1
        assert.equal((await opened(folder)).versions.length, 1 + done)
        const rest = await adoptRootVersions(folder, keysOf(source))
        assert.deepEqual(rest, [1, 2, 3].slice(done))
        assert.deepEqual(shown(await opened(folder)), shown(source))
      }
    }
  })

  test('while it joins with several versions has all of them or none', async (t) => {
    const keys = [0, 1, 2].map((version) => randomRootKeys(version)) as [RootKeys, ...RootKeys[]]
    const [first, ...later] = keys
    const joining = material(first)
    const files = ROOT_FILES.filter(({ required }) => required).length + later.length + 1
    let none = 0
    for (let number = 1; number <= files + 2; number++) {
      for (const when of ['before', 'after'] as const) {
        const folder = temporaryFolder(t)
        const killed = createRootKeys(folder, joining, later, endingAt(number, when), 2)
        await assert.rejects(killed, { message: 'killed' })
        const roots = await openRoots(folder)
        if (!roots) {
          none += 1
          assert.deepEqual(readdirSync(folder), [])
          continue
        }
        assert.deepEqual([keysOf(roots), roots.current.root.version], [keys, 2])
        assert.equal(readdirSync(folder).length, files)
      }
    }
    assert.equal(none, 1, 'only before its first step')
  })

  test('leaves half a file behind, which the next start removes', async (t) => {
    const folder = await withVersions(t, 1)
    const expected = readdirSync(folder).sort()
    for (const name of ['root-v2.json', 'root-current', 'root-keys.pending', 'root-ca.key']) {
      const path = join(folder, `.cvmd-0123456789ab.${name}`)
      writeFileSync(path, 'half', { mode: 0o600 })
      utimesSync(path, 1, 1)
    }
    await opened(folder)
    assert.deepEqual(readdirSync(folder).sort(), expected)
  })
})
