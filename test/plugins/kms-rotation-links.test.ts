/** Clients that know an earlier root of a KMS than the one it uses. */
import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { after, describe, test } from 'node:test'
import { selfSigned } from '../../plugins/kms/certificates/authority.ts'
import { p256Key } from '../../plugins/kms/certificates/p256-key.ts'
import { rootName, versionOfRoot } from '../../plugins/kms/certificates/root-name.ts'
import { rootOf as rootShown } from '../../plugins/kms/client/server-identity.ts'
import { keyV0 } from '../../plugins/kms/derivation/app-keys.ts'
import { appRootKey } from '../../plugins/kms/derivation/kms-keys.ts'
import { linkedAuthority, MAX_ROOT_LINKS } from '../../plugins/kms/server/root-links.ts'
import {
  createMaterial,
  type RootMaterial,
  randomRootKeys,
} from '../../plugins/kms/server/root-material.ts'
import { type Roots, rootsFrom } from '../../plugins/kms/server/roots.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { nameDer } from '../../src/x509/issue.ts'
import { parsePemChain } from '../../src/x509/pem.ts'
import { agentHost, BOOTED, closeAll, rootFile, rootOf, startKms } from './kms-agent-fixtures.ts'
import { hex, unhex } from './kms-fixtures.ts'
import { mintBy } from './kms-server-fixtures.ts'

after(closeAll)

const appId = unhex(BOOTED['app-id'])
const LAST = MAX_ROOT_LINKS + 1
const DAY_MS = 24 * 3600 * 1000

const first = createMaterial(randomRootKeys(), '127.0.0.1', undefined)
const materials = Array.from({ length: LAST + 1 }, (_, version) => {
  if (version === 0) return first
  const { temporaryCa } = first
  return { ...createMaterial(randomRootKeys(version), '127.0.0.1', undefined), temporaryCa }
})
const materialOf = (version: number) => materials[version] as RootMaterial
const using = (version: number): Roots => rootsFrom(materials, version)

/** A certificate of the KMS, and all that it shows above. */
function shown(version: number, made = materials) {
  const authority = linkedAuthority(rootsFrom(made, version))
  const { der } = mintBy(authority, () => [])
  const above = authority.chain.map((pem) => parsePemChain(pem, 1)[0])
  return [parseCertificate(der), ...above] as const
}

const pinned = (version: number) => rootOf(materialOf(version))

describe('the chain of a KMS', () => {
  test('leads from the root in use to each of those before it, and never to a later one', () => {
    for (const used of [0, 1, 2, MAX_ROOT_LINKS]) {
      const chain = shown(used)
      for (const known of materials.keys()) {
        const look = () => rootShown(chain, [pinned(known)], Date.now())
        if (known <= used) assert.equal(hex(look().der), hex(pinned(known).der), `${known}`)
        else assert.throws(look, { code: 'KMS_ROOT_UNKNOWN' }, `${known}`)
      }
    }
    // There is an end to what is shown.
    assert.equal(shown(LAST).length, shown(MAX_ROOT_LINKS).length)
    rootShown(shown(LAST), [pinned(1)], Date.now())
    assert.throws(() => rootShown(shown(LAST), [pinned(0)], Date.now()), {
      code: 'KMS_ROOT_UNKNOWN',
    })
  })

  test('ends in the newest root that is known', () => {
    const roots = [pinned(0), pinned(1), pinned(3)]
    assert.equal(hex(rootShown(shown(2), roots, Date.now()).der), hex(pinned(1).der))
    assert.equal(hex(rootShown(shown(3), roots, Date.now()).der), hex(pinned(3).der))
  })

  test('is one for verifiers that know the root in use, or the one before, in any language', () => {
    const [leaf, link] = shown(1).map(({ der }) => new X509Certificate(der))
    const [zero, one] = [0, 1].map((version) => new X509Certificate(pinned(version).der))
    assert.ok(leaf && link && zero && one)
    assert.ok(leaf.checkIssued(one) && leaf.verify(one.publicKey))
    assert.ok(leaf.checkIssued(link) && leaf.verify(link.publicKey))
    assert.ok(link.checkIssued(zero) && link.verify(zero.publicKey))
    assert.equal(link.subject, one.subject)
    assert.ok(link.ca)
  })

  test('counts for a month, and not if another signed it', () => {
    const later = Date.now() + 31 * DAY_MS
    assert.throws(() => rootShown(shown(1), [pinned(0)], later), { code: 'CERTIFICATE_EXPIRED' })
    rootShown(shown(1), [pinned(1)], later)
    const other = { ...createMaterial(randomRootKeys(), '127.0.0.1', undefined) }
    const forged = shown(1, [other, materialOf(1)])
    assert.throws(() => rootShown(forged, [pinned(0)], Date.now()), { code: 'KMS_ROOT_UNKNOWN' })
  })
})

test('a root says in its name which it is, and other names say nothing', () => {
  for (const version of [0, 1, 9, 10, 99]) {
    const named = (name: Parameters<typeof nameDer>[0]) =>
      versionOfRoot({ subject: { der: nameDer(name), commonName: undefined } })
    assert.equal(named(rootName(version)), version)
    assert.equal(named([...rootName(version), ['OU', 'root version 7']]), 0)
    assert.equal(named(rootName(version).slice(1)), 0)
  }
  for (const version of [0, 3]) assert.equal(versionOfRoot(pinned(version)), version)
})

describe('an agent that knows', () => {
  const told = /^(keys are derived from|there are no keys yet)/

  /** What its keys are derived from, or why it has none. */
  async function keysWith(known: readonly number[], used: number, root_version?: number) {
    const kms = await startKms({ material: materialOf(used), kms: { roots: using(used) } })
    const root_ca = rootFile(...known.map(materialOf))
    const host = agentHost({ upstream: { urls: [kms.url], root_ca, root_version } })
    await host.start()
    const message = await host.told(told)
    const [, { key }] = await host.json('/GetKey', { path: 'a' })
    const version = materials.findIndex(
      ({ root }) => hex(keyV0(appRootKey(root, appId), 'a')) === key,
    )
    return { host, message, version }
  }

  test('an earlier root keeps its keys and has certificates, until it is given a later one', async () => {
    const { host, version } = await keysWith([0], 2)
    assert.equal(version, 0)
    const [status, { certificate_chain: chain }] = await host.json('/GetTlsKey', {})
    assert.equal(status, 200)
    const root = parsePemChain((chain as string[]).at(-1) ?? '', 1)[0]
    assert.equal(hex(root.der), hex(pinned(0).der))
    assert.equal((await keysWith([0, 1], 2)).version, 1)
    assert.equal((await keysWith([0, 1, 2], 2)).version, 2)
    assert.equal((await keysWith([0, 1, 2], 2, 0)).version, 0)
  })

  test('as many roots before as a KMS shows finds it', async () => {
    assert.equal((await keysWith([1], LAST)).version, 1)
  })

  test('a first root that another program made and named', async () => {
    const authority = selfSigned(p256Key(first.root.ca), [['CN', 'KMS of old']], [])
    const old = { ...first, authority }
    const roots = rootsFrom([old, ...materials.slice(1)], 3)
    const kms = await startKms({ material: materialOf(3), kms: { roots } })
    const host = agentHost({ upstream: { urls: [kms.url], root_ca: rootFile(old) } })
    await host.start()
    await host.told(told)
    const [, { key }] = await host.json('/GetKey', { path: 'a' })
    assert.equal(key, hex(keyV0(appRootKey(first.root, appId), 'a')))
    assert.equal((await host.json('/GetTlsKey', {}))[0], 200)
  })

  test('a later root alone is not led back to an earlier one', async () => {
    const { message, version } = await keysWith([2], 1)
    assert.match(message, /does not end in a known root/)
    assert.equal(version, -1)
  })
})
