/** A KMS that joins another one: over RA-TLS with real sockets, and with what others may answer. */
import assert from 'node:assert/strict'
import { readdirSync, writeFileSync } from 'node:fs'
import { join as pathOf } from 'node:path'
import { after, describe, test } from 'node:test'
import fc from 'fast-check'
import { p256Key } from '../../plugins/kms/certificates/p256-key.ts'
import { type KmsConnection, KmsError } from '../../plugins/kms/client/connection.ts'
import { openKmsConnection } from '../../plugins/kms/client/open-connection.ts'
import { publicKeyOf } from '../../plugins/kms/derivation/curves.ts'
import type { RootKeys } from '../../plugins/kms/derivation/kms-keys.ts'
import { fetchRootKeys, type JoinOptions, join } from '../../plugins/kms/onboarding/join.ts'
import { readSourceKeys } from '../../plugins/kms/onboarding/source-keys.ts'
import { deny, type Policy, PolicyError } from '../../plugins/kms/policy/policy.ts'
import { listenRaTls, type RaTlsListener } from '../../plugins/kms/server/listener.ts'
import { verifyPeer } from '../../plugins/kms/server/peer.ts'
import { linkedAuthority } from '../../plugins/kms/server/root-links.ts'
import {
  createMaterial,
  type RootMaterial,
  randomRootKeys,
  rootAuthority,
} from '../../plugins/kms/server/root-material.ts'
import { openRoots, type Roots, rootsFrom } from '../../plugins/kms/server/roots.ts'
import { kmsRoutes } from '../../plugins/kms/server/routes.ts'
import { issueRpcCertificate } from '../../plugins/kms/server/rpc-certificate.ts'
import { parseCertificate } from '../../src/x509/certificate.ts'
import { integer, octetString, oid, sequence } from '../../src/x509/der-write.ts'
import { certificatePem, pemBlock } from '../../src/x509/issue.ts'
import { hex } from './kms-fixtures.ts'
import {
  FINE,
  failingSteps,
  kmsPolicy,
  refusalOf,
  temporaryFolder,
} from './kms-onboard-fixtures.ts'
import { APP_EVENTS, attesterOf, cloud, derOf, temporaryCaOf } from './kms-server-fixtures.ts'

const { trust, ...machines } = cloud()

/** What the KMS that is there measured, and the one that joins it. */
const SOURCE = { ...APP_EVENTS, 'compose-hash': '05'.repeat(32) }
const JOINING = { ...APP_EVENTS, 'compose-hash': '06'.repeat(32) }

const running: RaTlsListener[] = []
after(() => Promise.all(running.map((listener) => listener.close(100))))

/** A KMS on a port of its own. */
async function serve(
  roots: Roots,
  policy: Policy = kmsPolicy(FINE),
  events: Readonly<Record<string, string>> = SOURCE,
): Promise<string> {
  const { current } = roots
  const shown = { ...current, authority: linkedAuthority(roots) }
  const { pair } = await issueRpcCertificate(shown, attesterOf(machines.tdx(events)))
  const kms = { roots, policy, trust, self: undefined, now: Date.now }
  const temporaryCa = temporaryCaOf(current)
  const listener = await listenRaTls({
    host: '127.0.0.1',
    port: 0,
    pair,
    temporaryCa: current.temporaryCa.certificate,
    app: kmsRoutes({ kms, requests: { inc: () => undefined }, onRefused: () => undefined }),
    verify: (certificate) => verifyPeer(certificate, temporaryCa, trust, Date.now()),
  })
  running.push(listener)
  return `https://127.0.0.1:${listener.port}`
}

/** Materials of several versions, one of them the current one. */
function cluster(versions: number, current = 0): Roots {
  const first = createMaterial(randomRootKeys(), 'one.example', undefined)
  const later = Array.from({ length: versions - 1 }, (_, i): RootMaterial => {
    const root = randomRootKeys(i + 1)
    return { ...first, root, authority: rootAuthority(root) }
  })
  return rootsFrom([first, ...later], current)
}

const certificateOf = ({ authority }: RootMaterial) =>
  parseCertificate(derOf(authority.chain[0] ?? ''))

const optionsFor = (
  folder: string,
  sourceUrl: string,
  parts: Partial<JoinOptions> = {},
): JoinOptions => ({
  folder,
  sourceUrl,
  domain: 'two.example',
  attester: attesterOf(machines.tdx(JOINING)),
  trust,
  policy: kmsPolicy(FINE),
  deadlineMs: 20_000,
  ...parts,
})

const keysShown = ({ version, ca, k256 }: RootKeys) => [version, hex(ca), hex(k256)]

describe('Onboard', () => {
  test('takes over keys, certificate and temporary authority of the other KMS', async (t) => {
    const source = cluster(1)
    const theirs = kmsPolicy(FINE)
    const ours = kmsPolicy(FINE)
    const url = await serve(source, theirs)
    const folder = pathOf(temporaryFolder(t), 'keys')
    const answer = await join(optionsFor(folder, `${url}/prpc`, { policy: ours }))
    const { root, authority, temporaryCa } = source.current
    assert.deepEqual(answer, { k256_pubkey: hex(publicKeyOf('secp256k1', root.k256)) })
    assert.deepEqual(
      [ours.asked, theirs.asked].map((asked) => asked.map(({ composeHash }) => composeHash)),
      [[SOURCE['compose-hash']], [JOINING['compose-hash']]],
      'each asked its own policy about the other',
    )
    const joined = await openRoots(folder)
    assert.ok(joined)
    const { current } = joined
    assert.deepEqual(keysShown(current.root), keysShown(root))
    assert.deepEqual(current.authority.chain, authority.chain, 'the same certificate')
    assert.equal(current.temporaryCa.key.pem, temporaryCa.key.pem)
    assert.equal(current.domain, 'two.example')
    assert.equal(current.info, undefined)

    // Who pinned the one believes the other.
    const there = await serve(joined, kmsPolicy(FINE), JOINING)
    for (const address of [url, there]) {
      const connection = await openKmsConnection({
        url: address,
        roots: [certificateOf(source.current)],
        trust,
        attester: attesterOf(machines.tdx(JOINING)),
        vmConfig: '',
        deadlineMs: 20_000,
      })
      const { keys } = await connection.call('GetKmsKey', {})
      assert.equal((keys as { k256_key: string }[])[0]?.k256_key, hex(root.k256))
      connection.close()
    }
  })

  test('takes over all versions, and which of them is the current one', async (t) => {
    for (const current of [0, 2]) {
      const source = cluster(4, current)
      const folder = temporaryFolder(t)
      const { k256_pubkey } = await join(optionsFor(folder, await serve(source)))
      const joined = await openRoots(folder)
      assert.ok(joined)
      assert.equal(k256_pubkey, hex(publicKeyOf('secp256k1', source.current.root.k256)))
      assert.equal(joined.current.root.version, current)
      assert.deepEqual(joined.versions, [0, 1, 2, 3])
      for (const version of joined.versions) {
        const ours = joined.materialOf(version)
        const theirs = source.materialOf(version)
        assert.ok(ours && theirs)
        assert.deepEqual(keysShown(ours.root), keysShown(theirs.root))
        assert.deepEqual(ours.authority.name, theirs.authority.name)
      }
      const fetched = await fetchRootKeys(optionsFor(folder, await serve(joined)))
      assert.equal(fetched.current, current)
      assert.deepEqual(
        fetched.keys.map(keysShown),
        source.versions.map((version) => keysShown(source.of(version) as RootKeys)),
      )
    }
  })

  test('gets nothing from a KMS whose policy does not allow this one', async (t) => {
    const url = await serve(
      cluster(1),
      kmsPolicy(deny('KMS is not allowed to boot on this device')),
    )
    const folder = temporaryFolder(t)
    const [status, code, message] = await refusalOf(join(optionsFor(folder, url)))
    assert.deepEqual([status, code], [502, 'KMS_REFUSED'])
    assert.match(String(message), /KMS is not allowed to boot on this device/)
    assert.deepEqual(readdirSync(folder), [])
  })

  test('shows nothing to a KMS that the own policy does not allow', async (t) => {
    const theirs = kmsPolicy(FINE)
    const url = await serve(cluster(1), theirs)
    const folder = temporaryFolder(t)
    let quotes = 0
    const attester = attesterOf(machines.tdx(JOINING))
    const counting: typeof attester = {
      ...attester,
      evidence: (...args) => {
        quotes += 1
        return attester.evidence(...args)
      },
    }
    const ask = (parts: Partial<JoinOptions>) =>
      refusalOf(join(optionsFor(folder, url, { attester: counting, ...parts })))
    assert.deepEqual(await ask({ policy: kmsPolicy(deny('aggregated MR not allowed')) }), [
      403,
      'KMS_NOT_ALLOWED',
      'Source KMS is not allowed: boot denied: aggregated MR not allowed',
    ])
    const away = new PolicyError('POLICY_UNREACHABLE', 'http://secret.example is away')
    const silent = await ask({ policy: kmsPolicy(away) })
    assert.deepEqual(silent.slice(0, 2), [500, 'INTERNAL_ERROR'])
    assert.doesNotMatch(String(silent[2]), /secret/)
    const foreign = await ask({ trust: cloud().trust })
    assert.deepEqual(foreign.slice(0, 2), [502, 'KMS_NOT_VERIFIED'])
    assert.equal(quotes, 0)
    assert.deepEqual(theirs.asked, [])
    assert.deepEqual(readdirSync(folder), [])
  })

  test('believes only the root that was pinned, where one was', async (t) => {
    const source = cluster(1)
    const url = await serve(source)
    const folder = temporaryFolder(t)
    const file = pathOf(temporaryFolder(t), 'root.pem')
    const ask = () => join(optionsFor(folder, url, { sourceCa: file }))
    const missing = await refusalOf(ask())
    assert.deepEqual(missing.slice(0, 2), [500, 'SOURCE_CA_UNUSABLE'])
    writeFileSync(file, 'no certificate')
    assert.deepEqual((await refusalOf(ask())).slice(0, 2), [500, 'SOURCE_CA_UNUSABLE'])
    writeFileSync(file, cluster(1).current.authority.chain.join(''))
    assert.deepEqual((await refusalOf(ask())).slice(0, 2), [502, 'KMS_NOT_VERIFIED'])
    assert.deepEqual(readdirSync(folder), [])
    writeFileSync(file, source.current.authority.chain.join(''))
    assert.ok(await ask())
    // By which a KMS is still known that has gone on to another.
    const rotated = cluster(2, 1)
    const there = await serve(rotated)
    const next = temporaryFolder(t)
    const askThere = () => join(optionsFor(next, there, { sourceCa: file }))
    assert.deepEqual((await refusalOf(askThere())).slice(0, 2), [502, 'KMS_NOT_VERIFIED'])
    writeFileSync(file, rotated.materialOf(0)?.authority.chain.join('') ?? '')
    assert.ok(await askThere())
    const joined = await openRoots(next)
    assert.ok(joined)
    assert.deepEqual([joined.current.root.version, joined.versions], [1, [0, 1]])
    assert.deepEqual(joined.materialOf(0)?.authority.chain, rotated.materialOf(0)?.authority.chain)
  })

  test('happens once, and never where any file of root keys is', async (t) => {
    const url = await serve(cluster(1))
    const folder = temporaryFolder(t)
    await join(optionsFor(folder, url))
    const unasked = () => assert.fail('nobody is to be asked')
    const again = await refusalOf(join(optionsFor(folder, url, { open: unasked })))
    assert.deepEqual(again, [409, 'ROOT_KEYS_EXIST', 'KMS has already been onboarded'])
    for (const name of ['root-k256.key', 'root-keys.pending', 'root-v1.json']) {
      const other = temporaryFolder(t)
      writeFileSync(pathOf(other, name), 'of somebody else', { mode: 0o600 })
      const [status, code, message] = await refusalOf(
        join(optionsFor(other, url, { open: unasked })),
      )
      assert.deepEqual([status, code], [409, 'ROOT_KEYS_EXIST'])
      assert.match(String(message), /^KMS has already been onboarded: /)
    }
  })

  test('refuses URLs and names before anybody is asked', async (t) => {
    const folder = temporaryFolder(t)
    const open = () => assert.fail('nobody is to be asked')
    for (const url of ['', 'kms.example:12001', 'http://kms.example', 'https://u:p@kms.example']) {
      const [status, code, message] = await refusalOf(join(optionsFor(folder, url, { open })))
      assert.deepEqual([status, code], [400, 'SOURCE_URL_INVALID'])
      assert.doesNotMatch(String(message), /u:p/)
    }
    const options = optionsFor(folder, 'https://kms.example', { open, domain: 'a b' })
    assert.deepEqual((await refusalOf(join(options))).slice(0, 2), [400, 'DOMAIN_INVALID'])
  })

  test('leaves all versions or none, wherever it is cut off', async (t) => {
    const source = cluster(2, 1)
    const answer = answerOf(source)
    let done = false
    for (let at = 0; !done; at++) {
      assert.ok(at < 50)
      const folder = temporaryFolder(t)
      const open = connectionWith(source, () => answer)
      const steps = failingSteps(at, 'before')
      const cut = await join(optionsFor(folder, 'https://kms.example', { open, steps })).then(
        () => undefined,
        (error) => error,
      )
      done = cut === undefined
      if (!done) assert.equal(cut.code, 'ROOT_KEYS_NOT_WRITTEN')
      const anything = readdirSync(folder).length > 0
      const opened = await openRoots(folder)
      assert.equal(opened !== undefined, anything, `step ${at}`)
      if (!opened) continue
      assert.deepEqual([opened.versions, opened.current.root.version], [[0, 1], 1])
      const again = await refusalOf(join(optionsFor(folder, 'https://kms.example', { open })))
      assert.deepEqual(again.slice(0, 2), [409, 'ROOT_KEYS_EXIST'])
    }
  })

  test('says what went wrong on the way, and always hangs up', async (t) => {
    const source = cluster(1)
    const folder = temporaryFolder(t)
    let closed = 0
    const failing = (error: unknown) =>
      connectionWith(
        source,
        () => {
          throw error
        },
        () => {
          closed += 1
        },
      )
    for (const [error, status] of [
      [new KmsError('KMS_TIMEOUT', 'KMS https://kms.example is late'), 504],
      [new KmsError('KMS_UNREACHABLE', 'KMS https://kms.example is away'), 502],
      [new KmsError('KMS_CHANGED', 'somebody is in between'), 502],
    ] as const) {
      const open = failing(error)
      const options = optionsFor(folder, 'https://kms.example', { open })
      assert.deepEqual(await refusalOf(join(options)), [status, error.code, error.message])
    }
    assert.equal(closed, 3)
    const open = connectionWith(
      source,
      () => ({}),
      () => {
        closed += 1
      },
    )
    const empty = await refusalOf(join(optionsFor(folder, 'https://kms.example', { open })))
    assert.deepEqual(empty, [
      502,
      'KMS_MALFORMED',
      'Cannot use the root keys of KMS https://kms.example: missing or wrong: temp_ca_key, keys',
    ])
    assert.equal(closed, 4)
    assert.deepEqual(readdirSync(folder), [])
  })
})

/** What a KMS answers to GetKmsKey. */
const answerOf = ({ versions, of, current }: Roots) => ({
  temp_ca_key: current.temporaryCa.key.pem,
  keys: versions.map((version) => {
    const { ca, k256 } = of(version) as RootKeys
    return { ca_key: p256Key(ca).pem, k256_key: hex(k256) }
  }),
  root_version: current.root.version,
})

function connectionWith(
  { current }: Roots,
  call: () => Readonly<Record<string, unknown>>,
  close = () => {},
): NonNullable<JoinOptions['open']> {
  return async ({ url }): Promise<KmsConnection> => ({
    url,
    peer: {} as KmsConnection['peer'],
    root: certificateOf(current),
    call: async () => call(),
    close,
  })
}

describe('the keys of another KMS', () => {
  const source = cluster(3, 1)
  const answer = answerOf(source)
  const { spki } = certificateOf(source.current)
  const first = answer.keys[0] as (typeof answer.keys)[number]

  test('are read as they were given, numbered by their places', () => {
    const { keys, current, temporaryCa } = readSourceKeys(answer, spki)
    assert.equal(current, 1)
    assert.deepEqual(
      keys.map(keysShown),
      source.versions.map((version) => keysShown(source.of(version) as RootKeys)),
    )
    assert.equal(p256Key(temporaryCa).pem, answer.temp_ca_key)
    // As dstack's own answers: one version, without a number.
    const plain = cluster(1)
    const { root_version: _, ...theirs } = answerOf(plain)
    assert.equal(readSourceKeys(theirs, certificateOf(plain.current).spki).current, 0)
  })

  test('have to be of the root certificate that was shown', () => {
    const { spki: wrong } = certificateOf(cluster(1).current)
    assert.throws(() => readSourceKeys(answer, wrong), {
      message: 'no ca_key is that of its root certificate',
    })
    // Of a version before the one in use, where that is the one that was pinned.
    const { spki: earlier } = p256Key((source.of(0) as RootKeys).ca)
    assert.equal(readSourceKeys(answer, earlier).current, 1)
    assert.throws(() => readSourceKeys({ ...answer, root_version: 3 }, spki), {
      message: 'root_version is 3, of 3 there are keys',
    })
  })

  test('are refused without being repeated, when they are of another kind', () => {
    const version = (n: number) => integer(Uint8Array.of(n))
    const inner = sequence(version(1), octetString(new Uint8Array(32).fill(7)))
    const k256Curve = sequence(oid('1.2.840.10045.2.1'), oid('1.3.132.0.10'))
    const otherCurve = pemBlock('PRIVATE KEY', sequence(version(0), k256Curve, octetString(inner)))
    const secret = 'c0ffee'
    for (const [member, wrong] of [
      ['ca_key', otherCurve],
      ['ca_key', secret],
      ['ca_key', certificatePem(derOf(source.current.authority.chain[0] ?? ''))],
      ['k256_key', '00'.repeat(32)],
      ['k256_key', 'ff'.repeat(32)],
      ['k256_key', secret],
      ['k256_key', `${'ab'.repeat(31)}zz`],
      ['k256_key', 'ab'.repeat(33)],
      ['k256_key', 7],
    ] as const) {
      const keys = [answer.keys[0], { ...first, [member]: wrong }, answer.keys[2]]
      assert.throws(
        () => readSourceKeys({ ...answer, keys }, spki),
        ({ message }: Error) =>
          message.includes(`keys.1.${member}`) && !/c0ffee|abab/.test(message),
        `${member} ${wrong}`,
      )
    }
    for (const wrong of [otherCurve, '', secret, 'x'.repeat(5000)]) {
      assert.throws(() => readSourceKeys({ ...answer, temp_ca_key: wrong }, spki), /temp_ca_key/)
    }
    for (const keys of [[], Array(101).fill(first), {}, 'keys', null]) {
      assert.throws(() => readSourceKeys({ ...answer, keys }, spki), /missing or wrong: keys/)
    }
  })

  test('that are anything at all are read or refused', () => {
    const text = fc.oneof(fc.string(), fc.constant(first.ca_key), fc.constant(first.k256_key))
    const anything = fc.record(
      {
        temp_ca_key: fc.oneof(text, fc.anything()),
        keys: fc.oneof(
          fc.array(fc.record({ ca_key: text, k256_key: text }), { maxLength: 4 }),
          fc.anything(),
        ),
        root_version: fc.oneof(fc.integer(), fc.anything()),
      },
      { requiredKeys: [] },
    )
    fc.assert(
      fc.property(anything, (found) => {
        try {
          const { keys } = readSourceKeys(found, spki)
          assert.ok(keys.length > 0)
        } catch (error) {
          assert.equal((error as Error).name, 'Error', String(error))
        }
      }),
    )
  })
})
