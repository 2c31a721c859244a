import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import fc from 'fast-check'
import { publicKeyOf } from '../../plugins/kms/derivation/curves.ts'
import kms from '../../plugins/kms/index.ts'
import { certificatePem, issueCertificate } from '../../src/x509/issue.ts'
import { fakeTdx } from '../helpers/attester.ts'
import { hostPlugin, type PluginHost } from '../helpers/plugin-host.ts'
import {
  hex,
  IDENTITY,
  keyFile,
  SIMULATOR_KEYS,
  SIMULATOR_ROOT,
  signerOf,
  testAuthority,
  unhex,
} from './kms-fixtures.ts'

const folder = mkdtempSync(join(tmpdir(), 'cvmd-test-'))
const authority = testAuthority()
const running: PluginHost[] = []

after(async () => {
  await Promise.all(running.map((host) => host.stop()))
  rmSync(folder, { recursive: true })
})

let files = 0
function secretFile(content: string, mode = 0o600): { file: string } {
  const file = join(folder, `keys-${files++}.json`)
  writeFileSync(file, content)
  chmodSync(file, mode)
  return { file }
}

type Answer = Readonly<Record<string, unknown>>

interface Served extends PluginHost {
  /** Status and JSON of a GET, or of a POST when there is a body. */
  json(path: string, body?: object): Promise<[status: number, answer: Answer]>
}

function served(config: object, scopes: readonly string[] = ['*']): Served {
  const host = hostPlugin(kms, config, {
    services: { attestation: fakeTdx().attester, appIdentity: { current: () => IDENTITY } },
    guard: { authenticate: () => ({ kind: 'key', name: 'k', scopes }) },
  })
  running.push(host)
  const json = async (path: string, body?: object): Promise<[number, Answer]> => {
    const init = body && { method: 'POST', body: JSON.stringify(body) }
    const answer = await host.request(path, init)
    return [answer.status, (await answer.json()) as Answer]
  }
  return { ...host, json }
}

async function withKeyFile(config: object = {}, scopes?: readonly string[]): Promise<Served> {
  const host = served({ key_file: secretFile(keyFile(authority)), ...config }, scopes)
  await host.start()
  return host
}

const ROOT_PUBLIC_KEY = hex(publicKeyOf('secp256k1', unhex(SIMULATOR_ROOT)))

test('GetKey, by every path and method, is that of the dstack simulator', async () => {
  const host = await withKeyFile()
  for (const [path, key] of Object.entries(SIMULATOR_KEYS)) {
    const query = `?path=${encodeURIComponent(path)}&purpose=signing`
    const body = { path, purpose: 'signing', algorithm: 'k256' }
    for (const [where, sent, names] of [
      [`/GetKey${query}`, undefined, ['key', 'signature_chain']],
      ['/GetKey', body, ['key', 'signature_chain']],
      [`/v0/GetKey${query}`, undefined, ['key', 'signature_chain']],
      ['/v0/GetKey', { ...body, algorithm: 'ed25519' }, ['key', 'signature_chain']],
      ['/prpc/Tappd.DeriveK256Key', body, ['k256_key', 'k256_signature_chain']],
      [`/prpc/DeriveK256Key${query}`, undefined, ['k256_key', 'k256_signature_chain']],
    ] as const) {
      const [status, answer] = await host.json(where, sent)
      assert.equal(status, 200)
      assert.deepEqual(Object.keys(answer), names)
      assert.equal(answer[names[0]], key)
      const [link, second] = answer[names[1]] as string[]
      const algorithm = sent?.algorithm === 'ed25519' ? 'ed25519' : 'secp256k1'
      const claim = `signing:${hex(publicKeyOf(algorithm, unhex(key)))}`
      assert.equal(signerOf(unhex(link ?? ''), Buffer.from(claim)), ROOT_PUBLIC_KEY)
      assert.equal(second, '22'.repeat(65))
    }
  }
})

test('version 1 has another key for each algorithm, and its public key', async () => {
  const host = await withKeyFile()
  const keys = new Set<unknown>()
  for (const algorithm of ['secp256k1', 'ed25519'] as const) {
    const [status, answer] = await host.json('/v1/GetKey', { domain: 'wallet', algorithm })
    assert.equal(status, 200)
    assert.deepEqual(Object.keys(answer), ['key', 'public_key', 'signature_chain'])
    const key = answer.key as string
    assert.equal(answer.public_key, hex(publicKeyOf(algorithm, unhex(key))))
    const parts = ['dstack-guest-v1-key-claim', algorithm, 'wallet', unhex(answer.public_key)]
    const claim = parts.flatMap((part) => {
      const length = Buffer.alloc(4)
      length.writeUInt32BE(part.length)
      return [length, Buffer.from(part)]
    })
    const [link] = answer.signature_chain as string[]
    assert.equal(signerOf(unhex(link ?? ''), Buffer.concat(claim)), ROOT_PUBLIC_KEY)
    keys.add(key)
  }
  assert.equal(keys.size, 2)
})

test('an algorithm that is not one of the method is refused in the words of dstack', async () => {
  const host = await withKeyFile()
  const data = '00'.repeat(32)
  for (const [path, algorithm] of [
    ['/GetKey', 'secp256k1_prehashed'],
    ['/GetKey', 'p256'],
    ['/v1/GetKey', ''],
    ['/v1/GetKey', 'k256'],
    ['/Sign', ''],
    ['/Sign', 'SECP256K1'],
    ['/Verify', 'constructor'],
  ] as const) {
    const [status, answer] = await host.json(path, { algorithm, data })
    assert.deepEqual(
      [status, answer],
      [400, { error: 'Unsupported algorithm', code: 'ALGORITHM_UNSUPPORTED' }],
    )
  }
})

test('paths have no limit but the body’s, and none stands for another', async () => {
  const host = await withKeyFile({ cached_keys: 3 })
  const keys = new Map<string, string>()
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        fc.string({ unit: 'grapheme' }),
        fc.nat(200_000).map((n) => 'x'.repeat(n)),
      ),
      async (path) => {
        const [status, answer] = await host.json('/GetKey', { path })
        assert.equal(status, 200)
        const before = keys.get(path) ?? answer.key
        assert.equal(answer.key, before)
        keys.set(path, answer.key as string)
      },
    ),
    { numRuns: 60 },
  )
  assert.equal(new Set(keys.values()).size, keys.size)
  for (const [method, args] of [
    ['/GetKey', { path: '\ud800' }],
    ['/GetKey', { purpose: 'x'.repeat(16_385) }],
    ['/v1/GetKey', { domain: 'x'.repeat(16_385), algorithm: 'ed25519' }],
  ] as const) {
    const [status, answer] = await host.json(method, args)
    assert.deepEqual([status, answer.code], [400, 'INVALID_REQUEST'])
  }
})

test('a key that was forgotten and derived again is the same', async () => {
  const host = await withKeyFile({ cached_keys: 1 })
  const first = await host.json('/GetKey', { path: 'a' })
  await host.json('/GetKey', { path: 'b' })
  assert.deepEqual(await host.json('/GetKey', { path: 'a' }), first)
  assert.deepEqual(await host.json('/GetKey', { path: 'a' }), first)
})

describe('permitted_keys', () => {
  test('are all there are, in every method that gives a key', async () => {
    const host = await withKeyFile({ permitted_keys: ['shop'] })
    for (const [path, body] of [
      ['/GetKey', { path: 'shop' }],
      ['/v1/GetKey', { domain: 'shop', algorithm: 'ed25519' }],
      ['/prpc/Tappd.DeriveKey', { path: 'shop' }],
      ['/prpc/Tappd.DeriveKey', { path: 'other', random_seed: true }],
      ['/prpc/DeriveK256Key', { path: 'shop' }],
      ['/Sign', { algorithm: 'ed25519', data: '00' }],
    ] as const) {
      assert.equal((await host.json(path, body))[0], 200, path)
    }
    for (const [path, body] of [
      ['/GetKey', { path: 'other' }],
      ['/GetKey', { path: 'shop/' }],
      ['/v0/GetKey', {}],
      ['/v1/GetKey', { domain: 'other', algorithm: 'ed25519' }],
      ['/prpc/Tappd.DeriveKey', { path: 'other' }],
      ['/prpc/DeriveK256Key', { path: 'other' }],
    ] as const) {
      const [status, answer] = await host.json(path, body)
      assert.deepEqual([status, answer.code], [404, 'KEY_NOT_FOUND'], path)
    }
  })

  test('an empty list permits none', async () => {
    const host = await withKeyFile({ permitted_keys: [] })
    assert.equal((await host.json('/GetKey', { path: '' }))[0], 404)
  })
})

describe('Sign and Verify', () => {
  test('sign with the key of path "vms", and verify what they signed', async () => {
    const host = await withKeyFile()
    const data = `${'64737461636b'.repeat(5)}0000`
    for (const algorithm of ['ed25519', 'secp256k1', 'secp256k1_prehashed', 'k256'] as const) {
      const [status, signed] = await host.json('/Sign', { algorithm, data })
      assert.equal(status, 200)
      assert.deepEqual(Object.keys(signed), ['signature', 'signature_chain', 'public_key'])
      const chain = signed.signature_chain as string[]
      assert.equal(chain.length, 3)
      assert.equal(chain[0], signed.signature)
      const curve = algorithm === 'ed25519' ? 'ed25519' : 'secp256k1'
      const [, key] = await host.json('/GetKey', {
        path: 'vms',
        purpose: 'signing',
        algorithm: curve,
      })
      assert.deepEqual(chain.slice(1), key.signature_chain)
      assert.equal(signed.public_key, hex(publicKeyOf(curve, unhex(key.key as string))))
      const { signature, public_key } = signed
      const verify = { algorithm, data, signature, public_key }
      assert.deepEqual(await host.json('/Verify', verify), [200, { valid: true }])
      const other = { ...verify, data: data.replace('64', '65') }
      assert.deepEqual(await host.json('/v0/Verify', other), [200, { valid: false }])
    }
  })

  test('say what is wrong', async () => {
    const host = await withKeyFile()
    for (const [path, body, code, error] of [
      [
        '/Sign',
        { algorithm: 'secp256k1_prehashed', data: 'ab' },
        'DIGEST_LENGTH',
        'Pre-hashed signing requires a 32-byte digest, but received 1 bytes',
      ],
      [
        '/Verify',
        { algorithm: 'ed25519', signature: 'ab' },
        'PUBLIC_KEY_MALFORMED',
        'Cannot verify: these 0 bytes are no public key of the algorithm',
      ],
      [
        '/Verify',
        { algorithm: 'secp256k1', signature: 'ab', public_key: ROOT_PUBLIC_KEY },
        'SIGNATURE_MALFORMED',
        'Cannot verify: these 1 bytes are no signature of the algorithm',
      ],
    ] as const) {
      assert.deepEqual(await host.json(path, body), [400, { error, code }])
    }
  })
})

test('scopes keep keys, certificates and signatures apart', async () => {
  const hosts = await Promise.all(
    ['kms:keys', 'kms:certificates', 'kms:sign'].map((scope) => withKeyFile({}, [scope])),
  )
  const paths = [
    ['/GetKey', '/v1/GetKey?algorithm=ed25519', '/prpc/DeriveKey', '/prpc/DeriveK256Key'],
    ['/GetTlsKey', '/v1/IssueCert'],
    ['/Sign?algorithm=ed25519'],
  ]
  for (const [i, host] of hosts.entries()) {
    for (const [j, list] of paths.entries()) {
      for (const path of list) {
        assert.equal((await host.json(path))[0], i === j ? 200 : 403, path)
      }
    }
  }
})

describe('the key file', () => {
  const reject = (config: object, expected: RegExp) =>
    assert.rejects(served(config).start(), (error: Error) => {
      assert.match(error.message, expected)
      const told = JSON.stringify([error.message, String(error.cause), error.stack])
      assert.ok(!told.includes(SIMULATOR_ROOT), 'nothing secret is told')
      return true
    })

  test('must be readable by its owner alone', async () => {
    const content = keyFile(authority)
    for (const mode of [0o640, 0o604, 0o644, 0o660]) {
      await reject({ key_file: secretFile(content, mode) }, /others have access .*use 0600/)
    }
  })

  test('is refused when anything in it is not what it should be', async () => {
    const other = testAuthority()
    const key = other.privateKey.export({ type: 'pkcs8', format: 'pem' })
    for (const [parts, expected] of [
      [{ k256_key: SIMULATOR_ROOT.slice(2) }, /k256_key has 31 bytes, expected 32$/],
      [{ k256_key: `${SIMULATOR_ROOT.slice(2)}zz` }, /k256_key is not hex$/],
      [{ k256_key: 'ff'.repeat(32) }, /k256_key is no secp256k1 key$/],
      [{ k256_key: undefined }, /missing or wrong: k256_key$/],
      [{ k256_signature: '00' }, /k256_signature has 1 bytes, expected 65$/],
      [{ key_provider: { None: { key } } }, /ca_cert: the certificate is not that of the key$/],
      [{ key_provider: { None: { key: 'x' } } }, /key_provider has a key that is no PEM$/],
      [{ key_provider: { Other: {} } }, /missing or wrong: key_provider$/],
      [{ ca_cert: 'x' }, /ca_cert: /],
      [{ ca_cert: 'x', key_provider: { Kms: { url: '' } } }, /ca_cert: /],
    ] as const) {
      await reject({ key_file: secretFile(keyFile(authority, parts)) }, expected)
    }
    await reject({ key_file: secretFile(`{"k256_key": "${SIMULATOR_ROOT}`) }, /it is not JSON$/)
    await reject({ key_file: secretFile('x'.repeat(300_000)) }, /at most 262144 are read$/)
    await reject({ key_file: { file: join(folder, 'none') } }, /ENOENT/)
  })

  test('may have an authority on P-384, and on no other curve but P-256', async () => {
    for (const [pair, expected] of [
      [generateKeyPairSync('ec', { namedCurve: 'P-384' }), undefined],
      [
        generateKeyPairSync('ec', { namedCurve: 'P-521' }),
        /its key is on neither P-256 nor P-384$/,
      ],
    ] as const) {
      const { subject } = authority
      const { publicKey, privateKey } = pair
      const validity = { validFrom: 0, validTo: Date.UTC(2050, 0, 1) }
      const fields = { subject, issuer: subject, publicKey, ...validity, extensions: [] }
      const certificate = issueCertificate(fields, authority.privateKey)
      const key = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
      const content = keyFile(authority, {
        ca_cert: certificatePem(certificate),
        key_provider: { Local: { key, mr: '' } },
      })
      if (expected) await reject({ key_file: secretFile(content) }, expected)
      else {
        const host = served({ key_file: secretFile(content) })
        await host.start()
        assert.equal((await host.json('/GetTlsKey', {}))[0], 200)
      }
    }
  })
})

describe('local keys', () => {
  test('are made once, in a file for the daemon alone, and stay the same', async () => {
    const host = served({})
    await host.start()
    const [, first] = await host.json('/GetKey', { path: 'a' })
    assert.deepEqual((first.signature_chain as string[])[1], '', 'no KMS vouches for them')
    const file = join(host.stateDir, 'sealing-seed')
    assert.deepEqual(readdirSync(host.stateDir), ['sealing-seed'])
    assert.equal(statSync(file).mode & 0o777, 0o600)
    assert.equal(readFileSync(file).length, 32)
    assert.ok(host.messages().includes('made new keys, there were none yet'))

    const other = served({})
    await other.start()
    assert.notEqual((await other.json('/GetKey', { path: 'a' }))[1].key, first.key)
    writeFileSync(join(other.stateDir, 'sealing-seed'), readFileSync(file))
    await other.start()
    assert.deepEqual((await other.json('/GetKey', { path: 'a' }))[1], first)
  })

  test('a damaged or open seed is an error, never a reason for new keys', async () => {
    for (const [content, mode, expected] of [
      [new Uint8Array(31), 0o600, /it has 31 bytes, expected 32$/],
      [new Uint8Array(33), 0o600, /it has 33 bytes, at most 32 are read$/],
      [new Uint8Array(0), 0o600, /it has 0 bytes, expected 32$/],
      [new Uint8Array(32), 0o644, /others have access/],
    ] as const) {
      const host = served({})
      await host.start()
      const file = join(host.stateDir, 'sealing-seed')
      writeFileSync(file, content)
      chmodSync(file, mode)
      await assert.rejects(host.start(), expected)
    }
  })
})

test('figures count calls by outcome; nothing tells a secret', async () => {
  const host = await withKeyFile({ permitted_keys: ['a'] })
  const [, answer] = await host.json('/GetKey', { path: 'a' })
  await host.json('/GetKey', { path: 'b' })
  await host.json('/Sign', { algorithm: 'x' })
  const text = await host.metrics.render()
  for (const [method, outcome] of [
    ['GetKey', 'answered'],
    ['GetKey', 'KEY_NOT_FOUND'],
    ['Sign', 'ALGORITHM_UNSUPPORTED'],
  ]) {
    const line = `cvmd_kms_requests_total{method="${method}",outcome="${outcome}"} 1`
    assert.ok(text.includes(line), line)
  }
  const told = `${text}${host.messages().join('\n')}`
  for (const secret of [SIMULATOR_ROOT, answer.key as string]) assert.ok(!told.includes(secret))
})

test('no key is derived for a HEAD, and none once it has stopped', async () => {
  const host = await withKeyFile()
  assert.equal((await host.request('/GetKey', { method: 'HEAD' })).status, 405)
  await host.stop()
  assert.equal((await host.request('/GetKey')).status, 500)
})
