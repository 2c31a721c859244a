/** Which KMS a client does not believe, and what that KMS gets to know of it. */
import assert from 'node:assert/strict'
import { after, describe, test } from 'node:test'
import type { Authority } from '../../plugins/kms/certificates/authority.ts'
import { p256Key } from '../../plugins/kms/certificates/p256-key.ts'
import type { KmsConnectionOptions } from '../../plugins/kms/client/connection.ts'
import { openKmsConnection } from '../../plugins/kms/client/open-connection.ts'
import { randomP256Scalar } from '../../plugins/kms/derivation/curves.ts'
import { appAuthority } from '../../plugins/kms/server/app-certificates.ts'
import { createMaterial, randomRootKeys } from '../../plugins/kms/server/root-material.ts'
import type { RaTlsUsage } from '../../src/attest/ra-tls.ts'
import { raTlsExtensions } from '../../src/attest/ra-tls.ts'
import { ApiError } from '../../src/errors.ts'
import type { PemPair } from '../../src/tls/self-signed.ts'
import type { Der } from '../../src/x509/der-write.ts'
import {
  closeAll,
  fakeKms,
  httpAnswer,
  intermediate,
  KMS,
  machines,
  material,
  options,
  pairOf,
  plainServer,
  realKms,
  refused,
  relay,
  rootOfMaterial,
  rpc,
  rpcOf,
  temporary,
} from './kms-client-fixtures.ts'
import { handshake } from './kms-client-impostor.ts'
import { unhex } from './kms-fixtures.ts'
import {
  attestedBy,
  attestedForAnother,
  cloud,
  type Machine,
  mint,
  mintBy,
} from './kms-server-fixtures.ts'

after(closeAll)

/** Type of a record that is encrypted. */
const APPLICATION = 23

const elsewhere = createMaterial(randomRootKeys(), 'kms.example', undefined)

/** Extensions of a certificate for a use, with evidence. */
const meant =
  (usage: RaTlsUsage | undefined, evidence: (spki: Uint8Array) => readonly Der[]) =>
  (spki: Uint8Array): readonly Der[] => [...raTlsExtensions({ usage }), ...evidence(spki)]

const kmsOn = (machine: Machine) => meant('kms:rpc', attestedBy(machine))
const genuine = kmsOn(machines.tdx(KMS))

/**
 * The code of the cause for which a server is refused that shows a certificate. It has to be
 * refused before anything is sent.
 */
async function found(pair: PemPair, other: Partial<KmsConnectionOptions> = {}): Promise<unknown> {
  const server = await fakeKms(pair, (_path, socket) => socket.destroy())
  const { code, cause, message } = await refused(openKmsConnection(options(server, other)))
  assert.equal(code, 'KMS_NOT_VERIFIED', message)
  assert.match(message, /^Cannot believe KMS https:\/\/127\.0\.0\.1:\d+: ./)
  await server.over
  assert.deepEqual([server.requests, server.certificates], [[], []])
  const { code: why, cause: evidence } = cause as { code?: string; cause?: { code?: string } }
  return evidence?.code ?? why
}

describe('a server is not believed, and is told nothing,', () => {
  test('whose certificate ends in another root', async () => {
    const { pair } = await rpcOf(elsewhere)
    assert.equal(await found(pair), 'KMS_ROOT_UNKNOWN')
    assert.equal(await found(rpc.pair, { roots: [rootOfMaterial(elsewhere)] }), 'KMS_ROOT_UNKNOWN')
    const temporary = mint(material, genuine)
    assert.equal(await found(pairOf(temporary)), 'KMS_ROOT_UNKNOWN', 'whose key everybody has')
    const [top = ''] = material.authority.chain
    assert.equal(await found(pairOf(temporary, top)), 'KMS_ROOT_UNKNOWN')
  })

  test('whose certificate is not that of a KMS, as those of applications are not', async () => {
    const evidence = attestedBy(machines.tdx(KMS))
    for (const usage of [undefined, 'app:custom', 'app:ca'] as const) {
      const pair = pairOf(mintBy(material.authority, meant(usage, evidence)))
      assert.equal(await found(pair), 'KMS_USAGE')
    }
    const shop = appAuthority(material.authority, randomP256Scalar(), unhex('01'.repeat(20)))
    const custom = mintBy(shop, meant('app:custom', evidence))
    assert.equal(await found(pairOf(custom, ...shop.chain)), 'KMS_USAGE')
    const posing = mintBy(shop, genuine)
    assert.equal(await found(pairOf(posing, ...shop.chain)), 'KMS_AUTHORITY')
    assert.equal(await found(pairOf(posing)), 'KMS_ROOT_UNKNOWN')
  })

  test('without evidence, or with evidence that does not count', async () => {
    const debug = machines.tdx(KMS, (report) => {
      report[512] = 1
    })
    for (const [extensions, why] of [
      [meant('kms:rpc', () => []), 'KMS_EVIDENCE_MISSING'],
      [meant('kms:rpc', attestedForAnother(machines.tdx(KMS))), 'REPORT_DATA_MISMATCH'],
      [kmsOn(debug), 'TD_DEBUG'],
      [kmsOn(machines.nitro(0)), 'NITRO_DEBUG'],
      [kmsOn(cloud().tdx(KMS)), 'ROOT_UNKNOWN'],
      [kmsOn(cloud().nitro()), 'NITRO_ROOT_UNKNOWN'],
    ] as const) {
      assert.equal(await found(pairOf(mintBy(material.authority, extensions))), why)
    }
    const { trust } = options({ port: 0 })
    const unknown = { trust: { ...trust, collateral: async () => undefined } }
    assert.equal(await found(rpc.pair, unknown), 'COLLATERAL_MISSING')
  })

  test('whose certificate is not valid now', async () => {
    const past = mintBy(material.authority, genuine, { notAfter: 1_000_000_000 })
    assert.equal(await found(pairOf(past)), 'CERTIFICATE_EXPIRED')
    const future = { notBefore: 4_000_000_000, notAfter: 4_100_000_000 }
    const early = mintBy(material.authority, genuine, future)
    assert.equal(await found(pairOf(early)), 'CERTIFICATE_NOT_YET_VALID')
    const later = { now: () => Date.UTC(2090, 0, 1) }
    assert.equal(await found(rpc.pair, later), 'CERTIFICATE_EXPIRED')
  })

  test('that the caller does not accept', async () => {
    const denied = new ApiError(403, 'MEASUREMENT_NOT_FOUND', 'not registered')
    const asked: string[] = []
    const accept: KmsConnectionOptions['accept'] = async ({ boot }) => {
      asked.push(boot.appId)
      throw denied
    }
    assert.equal(await found(rpc.pair, { accept }), 'MEASUREMENT_NOT_FOUND')
    assert.equal(await found(rpc.pair, { accept, roots: undefined }), 'MEASUREMENT_NOT_FOUND')
    assert.deepEqual(asked, [KMS['app-id'], KMS['app-id']])
  })

  test('that the caller never decides on', async () => {
    const server = await fakeKms(rpc.pair, (_path, socket) => socket.destroy())
    const accept = () => new Promise<never>(() => undefined)
    const late = { accept, deadlineMs: 400 }
    assert.equal((await refused(openKmsConnection(options(server, late)))).code, 'KMS_TIMEOUT')
    await server.over
    assert.deepEqual([server.requests, server.certificates], [[], []])
  })
})

const pemOf = ({ privateKey }: Authority) => privateKey.export({ type: 'pkcs8', format: 'pem' })

describe('a KMS is not believed, and is told no more than that somebody asks,', () => {
  /** Code, text, and code of the cause, for an answer to GetTempCaCert. */
  async function answering(
    answer: object,
    other: Partial<KmsConnectionOptions> = {},
    pair = rpc.pair,
  ): Promise<readonly unknown[]> {
    const server = await fakeKms(pair, (_path, socket) => {
      socket.write(httpAnswer(JSON.stringify(answer)))
    })
    const { code, message, cause } = await refused(openKmsConnection(options(server, other)))
    assert.deepEqual(server.requests, ['POST /prpc/KMS.GetTempCaCert?json {}'])
    assert.deepEqual([server.connections, server.certificates], [1, []])
    for (const { temp_ca_key } of [temporary(), temporary(elsewhere)]) {
      assert.ok(!message.includes(temp_ca_key.slice(40, 80)))
    }
    return [code, (cause as { code?: string } | undefined)?.code]
  }

  test('that names another root than its own', async () => {
    const { ca_cert } = temporary(elsewhere)
    for (const roots of [undefined, options({ port: 0 }).roots]) {
      const [code] = await answering({ ...temporary(), ca_cert }, { roots })
      assert.equal(code, 'KMS_NOT_VERIFIED')
    }
  })

  test('that names a root which is none', async () => {
    const between = intermediate(material.authority)
    const pair = pairOf(mintBy(between, genuine), ...between.chain)
    const [own] = between.chain
    const end = '-----END CERTIFICATE-----\n'
    for (const ca_cert of [own, `${pair.cert.split(end)[0]}${end}`]) {
      const [code] = await answering({ ...temporary(), ca_cert }, { roots: undefined }, pair)
      assert.equal(code, 'KMS_NOT_VERIFIED')
    }
  })

  test('that gives away the key it is known by', async () => {
    const [temp_ca_cert] = material.authority.chain
    const temp_ca_key = pemOf(material.authority)
    const answer = { ...temporary(), temp_ca_cert, temp_ca_key }
    for (const roots of [undefined, options({ port: 0 }).roots]) {
      assert.deepEqual(await answering(answer, { roots }), ['KMS_NOT_VERIFIED', undefined])
    }
  })

  test('whose temporary authority cannot be used', async () => {
    const { temp_ca_cert, temp_ca_key, ca_cert } = temporary()
    const other = temporary(elsewhere)
    const plain = mint(material, () => [])
    const expired = intermediate(material.authority, Date.now() - 1000)
    const unusable: object[] = [
      {},
      { temp_ca_cert, temp_ca_key },
      { temp_ca_cert, ca_cert },
      { temp_ca_key, ca_cert },
      { temp_ca_cert, temp_ca_key, ca_cert: 1 },
      { temp_ca_cert, temp_ca_key: other.temp_ca_key, ca_cert },
      { temp_ca_cert: other.temp_ca_cert, temp_ca_key, ca_cert },
      { temp_ca_cert: plain.cert, temp_ca_key: plain.key.pem, ca_cert },
      { temp_ca_cert: expired.chain[0], temp_ca_key: pemOf(expired), ca_cert },
      { temp_ca_cert, temp_ca_key: 'secret', ca_cert },
      { temp_ca_cert, temp_ca_key: temp_ca_key + 'x'.repeat(5000), ca_cert },
      { temp_ca_cert: temp_ca_cert + ca_cert, temp_ca_key, ca_cert },
      { temp_ca_cert, temp_ca_key, ca_cert: 'x'.repeat(40_000) },
    ]
    for (const answer of unusable) {
      assert.equal((await answering(answer))[0], 'KMS_MALFORMED', JSON.stringify(answer))
    }
  })
})

describe('somebody in between', () => {
  test('with a certificate of his own is not believed', async () => {
    const own = mintBy(elsewhere.authority, genuine)
    assert.equal(await found(pairOf(own, ...elsewhere.authority.chain)), 'KMS_ROOT_UNKNOWN')
    // Without a root that is known before, all that there is to know of a KMS is what it measured.
    const accept = async () => {
      throw new ApiError(403, 'MEASUREMENT_NOT_FOUND', 'not registered')
    }
    const attested = pairOf(own, ...elsewhere.authority.chain)
    assert.equal(await found(attested, { roots: undefined, accept }), 'MEASUREMENT_NOT_FOUND')
  })

  test('who shows the certificate of a KMS, but does not have its key, is not spoken to', async () => {
    for (const [key, outcome] of [
      [rpc.pair.key, 'ask'],
      [p256Key(randomP256Scalar()).pem, 'connect to'],
    ] as const) {
      let encrypted = 0
      const port = await plainServer((socket) => {
        handshake(socket, { cert: rpc.pair.cert, key }, (type) => {
          if (type === APPLICATION) encrypted += 1
          // The end of the handshake, and what is asked.
          if (encrypted === 2) socket.destroy()
        })
      })
      const { code, message } = await refused(openKmsConnection(options({ port })))
      assert.equal(code, 'KMS_UNREACHABLE')
      assert.match(message, new RegExp(`^Cannot ${outcome} KMS `))
      if (outcome === 'ask') assert.equal(encrypted, 2)
    }
  })

  test('who lets the first connection through and answers the second is found out', async () => {
    const real = await realKms()
    const another = await rpcOf(material)
    const stranger = mintBy(elsewhere.authority, () => [])
    for (const pair of [pairOf(stranger), (await rpcOf(elsewhere)).pair, another.pair]) {
      const his = await fakeKms(pair, (_path, socket) => socket.write(httpAnswer('{}')))
      const between = await relay((n) => (n === 0 ? real.port : his.port))
      const { code, message } = await refused(openKmsConnection(options(between)))
      assert.equal(code, 'KMS_CHANGED')
      assert.match(message, /ends at another key than the first one did/)
      assert.equal(between.connections, 2)
      await his.over
      assert.deepEqual(his.requests, [])
    }
  })

  test('who answers a later connection is found out, and the next may go through', async () => {
    const real = await realKms()
    const his = await fakeKms((await rpcOf(material)).pair, (_path, socket) => socket.destroy())
    const between = await relay((n) => (n === 2 ? his.port : real.port))
    const kms = await openKmsConnection(options(between))
    assert.ok((await kms.call('GetAppKey', {})).k256_key)
    between.cut()
    assert.equal((await refused(kms.call('GetAppKey', {}))).code, 'KMS_CHANGED')
    assert.deepEqual(his.requests, [])
    assert.ok((await kms.call('GetAppKey', {})).k256_key)
    kms.close()
  })
})
