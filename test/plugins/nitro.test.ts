import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { after, describe, test } from 'node:test'
import fc from 'fast-check'
import nitro from '../../plugins/nitro/index.ts'
import { NsmError, QueueError } from '../../src/device/devices.ts'
import { DeviceError } from '../../src/device/transport.ts'
import { type Fake, fakeNsm, fakeTdx } from '../helpers/attester.ts'
import { hostPlugin, type PluginHost } from '../helpers/plugin-host.ts'

type Answer = Readonly<Record<string, unknown>>

interface Served extends PluginHost {
  /** Status and JSON of a GET, or of a POST when there is a body. */
  json(path: string, body?: string): Promise<[status: number, answer: Answer]>
}

const running: PluginHost[] = []
after(() => Promise.all(running.map((host) => host.stop())))

/** The plugin on a machine, as seen by a caller with certain scopes. */
async function served(
  fake: Fake,
  config: unknown = {},
  scopes: readonly string[] = ['*'],
): Promise<Served> {
  const caller = { kind: 'key', name: 'k', scopes } as const
  const host = hostPlugin(nitro, config, {
    services: { attestation: fake.attester },
    guard: { authenticate: () => caller },
  })
  running.push(host)
  await host.start()
  const json = async (path: string, body?: string): Promise<[number, Answer]> => {
    const answer = await host.request(path, body === undefined ? {} : { method: 'POST', body })
    return [answer.status, (await answer.json()) as Answer]
  }
  return { ...host, json }
}

/** What the fake module's document holds: its three fields in hex, `-` for an absent one. */
function fieldsIn(answer: Answer): string {
  assert.deepEqual(Object.keys(answer), ['document'])
  return Buffer.from(String(answer.document), 'base64').toString()
}

describe('GetAttestation', () => {
  test('passes each field on, by GET and by POST', async () => {
    const host = await served(fakeNsm())
    for (const [query, body, fields] of [
      ['', '', '-/-/-'],
      ['?user_data=0x1234deadbeef', '{"user_data":"1234DEADBEEF"}', '1234deadbeef/-/-'],
      ['?nonce=ab&public_key=', '{"nonce":"0xab","public_key":""}', '-/ab/-'],
      [
        '?user_data=01&nonce=02&public_key=03',
        '{"user_data":"01","nonce":"02","public_key":"03"}',
        '01/02/03',
      ],
    ] as const) {
      for (const [path, sent] of [
        [`/GetAttestation${query}`, undefined],
        ['/GetAttestation', body],
      ] as const) {
        const [status, answer] = await host.json(path, sent)
        assert.equal(status, 200)
        assert.equal(fieldsIn(answer), fields)
      }
    }
  })

  test('up to 1024 bytes the module decides, beyond nobody is asked', async () => {
    const fake = fakeNsm()
    const host = await served(fake)
    for (const length of [512, 513, 1000]) {
      const [status, answer] = await host.json(`/GetAttestation?user_data=${'ab'.repeat(length)}`)
      assert.equal(status, 200)
      assert.equal(fieldsIn(answer), `${'ab'.repeat(length)}/-/-`)
    }
    const refused = await host.json(`/GetAttestation?user_data=${'ab'.repeat(1024)}`)
    assert.deepEqual([refused[0], refused[1].code], [400, 'NSM_ARGUMENT'])
    assert.match(String(refused[1].error), /InputTooLarge/)
    const asked = fake.calls.length
    for (const name of ['user_data', 'nonce', 'public_key']) {
      const sent = JSON.stringify({ [name]: 'ab'.repeat(1025) })
      const [status, answer] = await host.json('/GetAttestation', sent)
      assert.deepEqual([status, answer.code], [400, 'FIELD_TOO_LONG'])
      assert.match(String(answer.error), new RegExp(`${name} has 1025 bytes`))
    }
    assert.equal(fake.calls.length, asked)
  })

  test('whatever is asked, the document is about it or there is none', async () => {
    const host = await served(fakeNsm())
    const text = fc.oneof(
      fc.string({ unit: 'grapheme', maxLength: 50 }),
      fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes).toString('hex')),
    )
    await fc.assert(
      fc.asyncProperty(text, text, async (user_data, nonce) => {
        const sent = JSON.stringify({ user_data, nonce })
        const [status, answer] = await host.json('/GetAttestation', sent)
        const digits = [user_data, nonce].map((given) => given.replace(/^0x/i, ''))
        const good = digits.every((given) => /^([0-9a-f]{2})*$/i.test(given))
        assert.equal(status, good ? 200 : 400)
        const [first, second] = digits.map((given) => given.toLowerCase() || '-')
        if (good) assert.equal(fieldsIn(answer), `${first}/${second}/-`)
        else assert.deepEqual(Object.keys(answer), ['error', 'code'])
      }),
      { numRuns: 150 },
    )
  })

  test('no document is made for a HEAD', async () => {
    const host = await served(fakeNsm())
    assert.equal((await host.request('/GetAttestation', { method: 'HEAD' })).status, 405)
  })
})

test('the module and its registers can be read', async () => {
  const host = await served(fakeNsm())
  const [, module] = await host.json('/cvmd/nitro')
  assert.deepEqual(module, {
    version: '1.2.3',
    module_id: 'i-0123-enc4567',
    max_pcrs: 32,
    locked_pcrs: Array.from({ length: 16 }, (_, index) => index),
    digest: 'SHA384',
  })
  const [, { pcrs }] = await host.json('/cvmd/nitro/pcrs')
  const list = pcrs as readonly Answer[]
  assert.deepEqual(
    list.map(({ index, locked }) => [index, locked]),
    Array.from({ length: 32 }, (_, index) => [index, index < 16]),
  )
  const [, one] = await host.json('/cvmd/nitro/pcrs/16')
  assert.deepEqual(one, { index: 16, locked: false, value: '00'.repeat(48) })
  const random = await host.request('/cvmd/nitro/random')
  assert.equal(random.headers.get('content-type'), 'application/octet-stream')
  assert.equal((await random.arrayBuffer()).byteLength, 256)
})

test('a register is extended, then locked, and both are recorded', async () => {
  const host = await served(fakeNsm())
  const sha384 = (...parts: Uint8Array[]) => {
    return createHash('sha384').update(Buffer.concat(parts)).digest()
  }
  const first = sha384(new Uint8Array(48), new Uint8Array([0x12, 0x34]))
  assert.deepEqual(await host.json('/cvmd/nitro/pcrs/16/extend', '{"data":"0x1234"}'), [
    200,
    { index: 16, value: first.toString('hex') },
  ])
  // Nothing at all is data, too.
  const second = sha384(first).toString('hex')
  assert.equal((await host.json('/cvmd/nitro/pcrs/16/extend', '{"data":""}'))[1].value, second)
  assert.deepEqual(await host.json('/cvmd/nitro/pcrs/16/lock', ''), [200, { locked: [16] }])
  const [, after] = await host.json('/cvmd/nitro/pcrs/16')
  assert.deepEqual(after, { index: 16, locked: true, value: second })
  for (const [path, body] of [
    ['/cvmd/nitro/pcrs/16/extend', '{"data":"00"}'],
    ['/cvmd/nitro/pcrs/16/lock', ''],
  ] as const) {
    const [status, { code }] = await host.json(path, body)
    assert.deepEqual([status, code], [409, 'PCR_LOCKED'])
  }
  const [, locked] = await host.json('/cvmd/nitro/pcrs/lock', '{"range":18}')
  assert.deepEqual(locked, { locked: Array.from({ length: 18 }, (_, index) => index) })
  assert.equal((await host.json('/cvmd/nitro/pcrs/17'))[1].locked, true)
  assert.deepEqual(host.messages(), [
    `PCR 16 extended with 2 bytes, now ${first.toString('hex')}`,
    `PCR 16 extended with 0 bytes, now ${second}`,
    'PCR 16 locked',
    'PCRs 0 to 17 locked',
  ])
})

test('what names no register, or no data, changes nothing', async () => {
  const fake = fakeNsm()
  const host = await served(fake)
  for (const [path, body] of [
    ['/cvmd/nitro/pcrs/16/extend', '{}'],
    ['/cvmd/nitro/pcrs/16/extend', ''],
    ['/cvmd/nitro/pcrs/16/extend', '{"dta":"12"}'],
    ['/cvmd/nitro/pcrs/16/extend', '{"data":"12","more":1}'],
    ['/cvmd/nitro/pcrs/16/extend', '{"data":"1"}'],
    ['/cvmd/nitro/pcrs/-1/extend', '{"data":"12"}'],
    ['/cvmd/nitro/pcrs/1e1/extend', '{"data":"12"}'],
    ['/cvmd/nitro/pcrs/65536/extend', '{"data":"12"}'],
    ['/cvmd/nitro/pcrs/lock', '{}'],
    ['/cvmd/nitro/pcrs/lock', '{"range":0}'],
    ['/cvmd/nitro/pcrs/lock', '{"range":"17"}'],
  ] as const) {
    const [status, { code }] = await host.json(path, body)
    assert.deepEqual([status, code], [400, 'INVALID_REQUEST'], `${path} ${body}`)
  }
  assert.equal(fake.calls.length, 0)
  for (const path of ['/cvmd/nitro/pcrs/32', '/cvmd/nitro/pcrs/32/extend']) {
    const [status, { code }] = await host.json(path, path.endsWith('d') ? '{"data":""}' : undefined)
    assert.deepEqual([status, code], [400, 'NSM_ARGUMENT'])
  }
  assert.equal((await host.json('/cvmd/nitro/pcrs/lock', '{"range":33}'))[1].code, 'NSM_ARGUMENT')
  assert.deepEqual(host.messages(), [])
})

test('each kind of change has a scope of its own', async () => {
  const needs: Readonly<Record<string, readonly [path: string, body?: string][]>> = {
    'nitro:attest': [['/GetAttestation'], ['/GetAttestation', '{}']],
    'nitro:read': [
      ['/cvmd/nitro'],
      ['/cvmd/nitro/random'],
      ['/cvmd/nitro/pcrs'],
      ['/cvmd/nitro/pcrs/16'],
    ],
    'nitro:extend': [['/cvmd/nitro/pcrs/16/extend', '{"data":""}']],
    'nitro:lock': [
      ['/cvmd/nitro/pcrs/16/lock', ''],
      ['/cvmd/nitro/pcrs/lock', '{"range":1}'],
    ],
  }
  for (const held of Object.keys(needs)) {
    const host = await served(fakeNsm(), {}, [held])
    for (const [needed, calls] of Object.entries(needs)) {
      for (const [path, body] of calls) {
        const init = body === undefined ? {} : { method: 'POST', body }
        const { status } = await host.request(path, init)
        assert.equal(status, held === needed ? 200 : 403, `${path} with ${held}`)
      }
    }
  }
})

test('what goes wrong in the module has a status and a code of its own', async () => {
  const fake = fakeNsm()
  const host = await served(fake)
  for (const [thrown, status, code] of [
    [new QueueError('QUEUE_FULL', 'full', 2500), 429, 'DEVICE_QUEUE_FULL'],
    [new QueueError('DEADLINE', 'late'), 504, 'DEVICE_TIMEOUT'],
    [new DeviceError('ETIMEDOUT', 'ioctl', '/dev/nsm'), 504, 'DEVICE_TIMEOUT'],
    [new DeviceError('EMSGSIZE', 'ioctl', '/dev/nsm'), 400, 'NSM_ARGUMENT'],
    [new DeviceError('ENOTSUP', 'ioctl', '/dev/nsm'), 501, 'DEVICE_UNSUPPORTED'],
    [new NsmError('InvalidArgument', 'Attestation'), 400, 'NSM_ARGUMENT'],
    [new NsmError('InternalError', 'Attestation'), 502, 'NSM_FAILED'],
  ] as const) {
    fake.fault = () => {
      throw thrown
    }
    for (const path of ['/GetAttestation', '/cvmd/nitro', '/cvmd/nitro/pcrs']) {
      const [found, answer] = await host.json(path)
      assert.deepEqual([found, answer.code], [status, code], path)
    }
  }
})

test('a change that may have happened is recorded, one that was refused is not', async () => {
  const fake = fakeNsm()
  const host = await served(fake)
  fake.fault = () => {
    throw new QueueError('QUEUE_FULL', 'full', 1000)
  }
  await host.json('/cvmd/nitro/pcrs/16/extend', '{"data":""}')
  assert.deepEqual(host.messages(), [])
  fake.fault = () => {
    throw new QueueError('DEADLINE', 'it took longer than 10000 ms')
  }
  await host.json('/cvmd/nitro/pcrs/16/extend', '{"data":""}')
  await host.json('/cvmd/nitro/pcrs/16/lock', '')
  assert.deepEqual(host.messages(), [
    'could not extend PCR 16, or did and was not told: it took longer than 10000 ms',
    'could not lock PCR 16, or did and was not told: it took longer than 10000 ms',
  ])
})

test('a machine of the other kind is named, with the call to use', async () => {
  const host = await served(fakeTdx())
  const [status, { error, code }] = await host.json('/GetAttestation')
  assert.deepEqual([status, code], [400, 'WRONG_PLATFORM'])
  assert.match(String(error), /this machine is an Intel TDX guest, use GET \/GetQuote$/)
})

test('figures tell of every document, the self-test included', async () => {
  const fake = fakeNsm()
  const host = await served(fake, { self_test_interval_ms: 60_000 })
  assert.equal(fake.calls[0]?.caller, 'self-test')
  await host.json('/GetAttestation')
  await host.json(`/GetAttestation?user_data=${'ab'.repeat(1024)}`)
  const text = await host.metrics.render()
  assert.match(text, /^cvmd_nitro_documents_total\{outcome="made"\} 2$/m)
  assert.match(text, /^cvmd_nitro_documents_total\{outcome="InputTooLarge"\} 1$/m)
  assert.match(text, /^cvmd_nitro_document_age_seconds [0-9.e-]+$/m)
})
