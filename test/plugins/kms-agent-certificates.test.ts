/** Certificates that an agent has signed by a KMS, on real sockets. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { issueLeaf } from '../../plugins/kms/certificates/leaf.ts'
import { p256Key } from '../../plugins/kms/certificates/p256-key.ts'
import { randomP256Scalar } from '../../plugins/kms/derivation/curves.ts'
import { appCaScalar } from '../../plugins/kms/derivation/kms-keys.ts'
import { appAuthority } from '../../plugins/kms/server/app-certificates.ts'
import {
  createMaterial,
  type RootMaterial,
  randomRootKeys,
} from '../../plugins/kms/server/root-material.ts'
import { rootsFrom } from '../../plugins/kms/server/roots.ts'
import { readRaTls } from '../../src/attest/ra-tls.ts'
import type { Certificate } from '../../src/x509/certificate.ts'
import { verifyPath } from '../../src/x509/path.ts'
import { parsePemChain } from '../../src/x509/pem.ts'
import { lacks } from '../helpers/counterpart.ts'
import {
  type AgentHost,
  agentHost,
  agentOf,
  BOOTED,
  closeAll,
  type KmsChanges,
  refusalOf,
  rootFile,
  rootOf,
  startKms,
} from './kms-agent-fixtures.ts'
import { hex, keyFile, SIMULATOR_KEYS, testAuthority, unhex } from './kms-fixtures.ts'

const folder = mkdtempSync(join(tmpdir(), 'cvmd-test-'))
after(async () => {
  await closeAll()
  rmSync(folder, { recursive: true })
})

interface Issued {
  readonly key: string
  readonly pem: readonly string[]
  readonly leaf: Certificate
  readonly authority: Certificate
  readonly root: Certificate
}

async function issue(host: AgentHost, path: string, body: object = {}): Promise<Issued> {
  const [status, answer] = await host.json(path, body)
  assert.equal(status, 200, JSON.stringify(answer))
  assert.deepEqual(Object.keys(answer), ['key', 'certificate_chain'])
  const { key, certificate_chain: pem } = answer as { key: string; certificate_chain: string[] }
  const [leaf, authority, root, ...more] = pem.flatMap((one) => parsePemChain(one, 1))
  assert.ok(leaf && authority && root && more.length === 0)
  const spki = createPublicKey(createPrivateKey(key)).export({ type: 'spki', format: 'der' })
  assert.equal(hex(spki), hex(leaf.spki), 'the key is the certificate’s')
  return { key, pem, leaf, authority, root }
}

/** A key file of dstack's boot with a KMS. */
function fileOf(url: string, { authority }: RootMaterial): object {
  const file = join(folder, 'keys.json')
  const parts = {
    ca_cert: authority.chain.join(''),
    key_provider: { Kms: { url, pubkey: '', tmp_ca_key: '', tmp_ca_cert: '' } },
  }
  writeFileSync(file, keyFile(testAuthority(), parts))
  chmodSync(file, 0o600)
  return { key_file: { file } }
}

async function agentOfFile(url: string, material: RootMaterial): Promise<AgentHost> {
  const host = agentHost(fileOf(url, material))
  await host.start()
  return host
}

describe('a certificate signed by a KMS', () => {
  test('is for the key, below the authority that the KMS has for the application', async () => {
    const kms = await startKms()
    const scalar = appCaScalar(kms.material.root, unhex(BOOTED['app-id']))
    for (const host of [await agentOf([kms]), await agentOfFile(kms.url, kms.material)]) {
      const issued = await Promise.all([
        issue(host, '/GetTlsKey'),
        issue(host, '/v0/GetTlsKey'),
        issue(host, '/v1/IssueCert'),
        issue(host, '/prpc/Tappd.DeriveKey', { path: 'a' }),
        issue(host, '/prpc/DeriveKey', { path: 'a', random_seed: true }),
      ])
      for (const { leaf, authority, root } of issued) {
        assert.equal(hex(root.der), hex(rootOf(kms.material).der))
        verifyPath([leaf, authority], root, Date.now())
        assert.equal(hex(authority.spki), hex(p256Key(scalar).spki))
        const { usage, appId, evidence } = readRaTls(leaf)
        assert.deepEqual([usage, hex(appId ?? new Uint8Array())], ['app:custom', BOOTED['app-id']])
        assert.equal(evidence, undefined)
      }
      assert.equal(new Set(issued.map(({ key }) => key)).size, 5)
      const again = await issue(host, '/prpc/Tappd.DeriveKey', { path: 'a' })
      assert.equal(again.key, issued[3]?.key, 'a derived key stays the same')
    }
    assert.equal(kms.asked.at(-1)?.keyProviderInfo, '', 'the boot alone counts')
  })

  test('has in it what was asked for', async () => {
    const kms = await startKms()
    const { pem, leaf } = await issue(await agentOf([kms]), '/GetTlsKey', {
      subject: 'shop.example',
      alt_names: ['shop.example', '192.0.2.7'],
      usage_ra_tls: true,
      usage_server_auth: true,
      usage_client_auth: true,
      not_before: 4_000_000_000,
      not_after: 4_100_000_000,
      with_app_info: true,
    })
    const x509 = new X509Certificate(pem[0] ?? '')
    assert.equal(x509.subject, 'CN=shop.example')
    assert.equal(x509.subjectAltName, 'DNS:shop.example, IP Address:192.0.2.7')
    // A validity that is yet to begin is for whoever asked to know.
    assert.deepEqual([leaf.notBefore, leaf.notAfter], [4_000_000_000_000, 4_100_000_000_000])
    const { evidence, appInfo } = readRaTls(leaf)
    assert.equal(evidence?.bound, true)
    assert.equal(hex(appInfo?.composeHash ?? new Uint8Array()), BOOTED['compose-hash'])
  })

  test('is verified by openssl', async (t) => {
    if (lacks(t, 'openssl')) return
    const host = await agentOf([await startKms()])
    const { pem } = await issue(host, '/GetTlsKey', {
      alt_names: ['shop.example'],
      usage_server_auth: true,
      usage_ra_tls: true,
    })
    const [leaf = '', authority = '', root = ''] = pem.map((one, at) => {
      const file = join(folder, `${at}.pem`)
      writeFileSync(file, one)
      return file
    })
    const checks = ['-x509_strict', '-purpose', 'sslserver', '-verify_hostname', 'shop.example']
    const trusted = ['-CAfile', root, '-untrusted', authority]
    const args = ['verify', ...checks, ...trusted, leaf]
    assert.match(execFileSync('openssl', args, { stdio: 'pipe' }).toString(), /: OK$/m)
  })

  test('stays below the root of the keys when the KMS rotates its own', async () => {
    const [first, second] = [0, 1].map((version) =>
      createMaterial(randomRootKeys(version), '127.0.0.1', undefined),
    )
    assert.ok(first && second)
    const shared = { ...second, temporaryCa: first.temporaryCa }
    const all = [rootsFrom([first, shared], 0), rootsFrom([first, shared], 1)]
    const roots = { ...all[0], current: first } as NonNullable<(typeof all)[0]>
    const kms = await startKms({ material: first, kms: { roots } })
    const upstream = { urls: [kms.url], root_ca: rootFile(first, second) }
    const host = agentHost({ upstream })
    await host.start()
    await host.told(/^keys are derived/)
    Object.assign(roots, all[1])
    const { root } = await issue(host, '/GetTlsKey')
    assert.equal(hex(root.der), hex(rootOf(first).der))
  })
})

describe('asking the KMS', () => {
  test('is done on one connection for all', async () => {
    const kms = await startKms()
    const host = await agentOf([kms])
    await Promise.all(Array.from({ length: 8 }, () => issue(host, '/GetTlsKey')))
    await issue(host, '/GetTlsKey')
    assert.equal(kms.called.filter((method) => method === 'SignCert').length, 9)
    assert.equal(kms.called.filter((method) => method === 'GetTempCaCert').length, 1)
    assert.equal(kms.verified(), 1, 'one client certificate')
  })

  test('goes on after the KMS was started anew, with another certificate', async () => {
    let kms = await startKms()
    const { port, material } = kms
    const host = await agentOf([kms])
    await issue(host, '/GetTlsKey')
    for (const isMissed of [false, true]) {
      await kms.close()
      if (isMissed) assert.equal((await refusalOf(host.json('/GetTlsKey')))[1], 'KMS_UNAVAILABLE')
      kms = await startKms({ port, material })
      await issue(host, '/GetTlsKey')
      assert.deepEqual(kms.called, ['GetTempCaCert', 'SignCert'])
    }
  })

  test('that is away is answered with 503, keys of a file are there all the same', async () => {
    const kms = await startKms()
    await kms.close()
    const host = await agentOfFile(kms.url, kms.material)
    const [, { key }] = await host.json('/GetKey', { path: 'test' })
    assert.equal(key, SIMULATOR_KEYS.test)
    const answer = await host.request('/GetTlsKey', { method: 'POST', body: '{}' })
    assert.equal(answer.status, 503)
    assert.ok(Number(answer.headers.get('retry-after')) >= 1)
    const { code, error } = (await answer.json()) as Record<string, string>
    assert.equal(code, 'KMS_UNAVAILABLE')
    assert.ok(error?.includes(kms.url), error)
  })

  test('which refuses gives its reason, and what was asked wrongly is said by us', async () => {
    const kms = await startKms()
    const host = await agentOf([kms])
    kms.allowed = false
    const [status, code, text] = await refusalOf(host.json('/GetTlsKey'))
    assert.deepEqual([status, code], [502, 'KMS_REFUSED'])
    assert.match(text, /SignCert: App not allowed: .*app not registered \(MEASUREMENT_NOT_FOUND\)$/)
    kms.allowed = true
    const called = kms.called.length
    for (const [body, expected] of [
      [{ not_before: 2, not_after: 1 }, 'CERTIFICATE_VALIDITY'],
      [{ alt_names: ['a b'] }, 'CERTIFICATE_NAME'],
    ] as const) {
      assert.equal((await refusalOf(host.json('/GetTlsKey', body)))[1], expected)
    }
    assert.equal(kms.called.length, called, 'nothing is asked for what cannot be')
  })

  test('which only the KMS finds too large or itself too busy for', async () => {
    const kms = await startKms()
    const host = await agentOf([kms])
    for (const [code, status, expected] of [
      ['CERTIFICATE_TOO_LARGE', 409, 'CERTIFICATE_TOO_LARGE'],
      ['RATE_LIMITED', 503, 'KMS_UNAVAILABLE'],
      ['INTERNAL_ERROR', 503, 'KMS_UNAVAILABLE'],
      ['UNAUTHORIZED', 502, 'KMS_REFUSED'],
      ['constructor', 502, 'KMS_REFUSED'],
    ] as const) {
      const error = () => Response.json({ error: 'no', code }, { status: 400 })
      kms.change = { before: (method) => (method === 'SignCert' ? error() : undefined) }
      const refused = await refusalOf(host.json('/GetTlsKey'))
      assert.deepEqual(refused.slice(0, 2), [status, expected])
    }
  })
})

describe('a chain that is not what it should be', async () => {
  const kms = await startKms()
  const other = createMaterial(randomRootKeys(), '127.0.0.1', undefined)
  const host = await agentOf([kms])
  const chain = (change: (pem: string[]) => unknown): KmsChanges => ({
    after: (method, answer) =>
      method === 'SignCert'
        ? { certificate_chain: change(answer.certificate_chain as string[]) }
        : undefined,
  })
  const stranger = p256Key(randomP256Scalar())
  const appId = unhex(BOOTED['app-id'])
  /** What another KMS would sign, for this key or any. */
  const signedBy = (material: RootMaterial, key = stranger) => {
    const authority = appAuthority(material.authority, appCaScalar(material.root, appId), appId)
    const leaf = { subject: '', altNames: [], serverAuth: true, clientAuth: false }
    return issueLeaf(authority, key, leaf, []) as string[]
  }
  /** A key that is not the stranger's. */
  const ofLeaf = (pem: string[]) => ({ publicKey: createPublicKey(pem[0] ?? '') })

  for (const [what, change, expected] of [
    ['none', () => undefined, /no list of 2 to 4 certificates/],
    ['text', (pem) => pem.join(''), /no list of 2 to 4 certificates/],
    ['a leaf alone', (pem) => pem.slice(0, 1), /no list of 2 to 4 certificates/],
    ['long', (pem) => [...pem, ...pem], /no list of 2 to 4 certificates/],
    ['numbers', () => [1, 2, 3], /no text in PEM/],
    ['without certificates', () => ['', ''], /no CERTIFICATE block/],
    ['several in one', ([a, b, c]) => [`${a}${b}`, c], /more than 1 CERTIFICATE/],
    ['in the wrong order', (pem) => pem.toReversed(), /another key|may issue/],
    ['without the authority', ([a, , c]) => [a, c], /not issued by/],
    ['for another key', () => signedBy(kms.material), /it is for another key/],
    ['of another KMS', (pem) => signedBy(other, ofLeaf(pem) as never), /not issued by/],
    [
      'of another KMS with our root',
      (pem) => [...signedBy(other, ofLeaf(pem) as never).slice(0, 2), pem[2]],
      /not issued by/,
    ],
    [
      'without the evidence',
      (pem) => signedBy(kms.material, ofLeaf(pem) as never),
      /no evidence about its key/,
    ],
  ] as readonly [string, (pem: string[]) => unknown, RegExp][]) {
    test(`is refused: ${what}`, async () => {
      kms.change = chain(change)
      const refused = await refusalOf(host.json('/GetTlsKey', { usage_ra_tls: true }))
      assert.deepEqual(refused.slice(0, 2), [502, 'KMS_MALFORMED'])
      assert.match(refused[2], expected)
      kms.change = {}
      await issue(host, '/GetTlsKey', { usage_ra_tls: true })
    })
  }

  test('is completed where the root is left out', async () => {
    kms.change = chain((pem) => pem.slice(0, 2))
    const { root } = await issue(host, '/GetTlsKey')
    assert.equal(hex(root.der), hex(rootOf(kms.material).der))
    kms.change = {}
  })
})
