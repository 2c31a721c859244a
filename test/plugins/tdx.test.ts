import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import fc from 'fast-check'
import tdx from '../../plugins/tdx/index.ts'
import type { EventLogEntry } from '../../src/attest/event-log.ts'
import { parseQuote } from '../../src/attest/tdx/quote.ts'
import { QueueError } from '../../src/device/devices.ts'
import { DeviceError } from '../../src/device/transport.ts'
import { type Fake, fakeNsm, fakeTdx } from '../helpers/attester.ts'
import { hostPlugin, type PluginHost } from '../helpers/plugin-host.ts'

const EVENTS: readonly EventLogEntry[] = [
  { imr: 0, event_type: 4, digest: '11'.repeat(48), event: '', event_payload: '00000000' },
  {
    imr: 0,
    event_type: 10,
    digest: '22'.repeat(48),
    event: 'acpi-loader',
    event_payload: Buffer.from('ACPI DATA').toString('hex'),
  },
  {
    imr: 3,
    event_type: 0x08000001,
    digest: '33'.repeat(48),
    event: 'app-id',
    event_payload: 'abcd',
  },
]

const BOOT_LOG = new Uint8Array(256).fill(0xff)

type Answer = Readonly<Record<string, string>>

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
  const host = hostPlugin(tdx, config, {
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

const REAL = ['quote', 'event_log', 'report_data', 'vm_config']
const RTMRS = ['rtmr0', 'rtmr1', 'rtmr2', 'rtmr3']
const PADDED = `1234deadbeef${'00'.repeat(58)}`

describe('GetQuote', () => {
  let host: Served

  before(async () => {
    host = await served(fakeTdx(EVENTS), { vm_config: '{"cpu_count":1}' })
  })

  test('by GET answers as the seed API, by POST as the SDKs ask, by /v0 as dstack', async () => {
    const query = '?report_data=0x1234deadbeef'
    const body = '{"report_data":"1234DEADBEEF"}'
    for (const [path, sent, names] of [
      [`/GetQuote${query}`, undefined, ['quote', ...RTMRS, ...REAL.slice(1), 'quote_hex']],
      [`/GetQuote${query}&encoding=hex`, undefined, REAL],
      ['/GetQuote', body, [...REAL, ...RTMRS]],
      [`/v0/GetQuote${query}`, undefined, REAL],
      ['/v0/GetQuote', body, REAL],
    ] as const) {
      const [status, answer] = await host.json(path, sent)
      assert.equal(status, 200, path)
      assert.deepEqual(Object.keys(answer), names, path)
      assert.equal(answer.report_data, PADDED)
      assert.equal(answer.vm_config, '{"cpu_count":1}')
      const bytes = Buffer.from(
        answer.quote ?? '',
        answer.quote_hex === undefined ? 'hex' : 'base64',
      )
      const quote = parseQuote(bytes)
      assert.equal(Buffer.from(quote.reportData).toString('hex'), PADDED)
      if (answer.quote_hex !== undefined) assert.equal(answer.quote_hex, bytes.toString('hex'))
      if (answer.rtmr0 === undefined) continue
      for (const [i, name] of RTMRS.entries()) {
        assert.equal(answer[name], Buffer.from(quote.rtmr[i] ?? []).toString('hex'))
      }
    }
  })

  test('the event log has every digest, and of boot entries no payload', async () => {
    const [, { event_log = '' }] = await host.json('/GetQuote')
    assert.deepEqual(JSON.parse(event_log), [
      { ...EVENTS[0], event_payload: '' },
      ...EVENTS.slice(1),
    ])
  })

  test('report data is 0 to 64 bytes, and its errors say what is wrong', async () => {
    for (const text of ['', '0x', 'ab'.repeat(64), `0x${'AB'.repeat(64)}`]) {
      const [status, answer] = await host.json(`/GetQuote?report_data=${text}`)
      assert.equal(status, 200, text)
      const digits = text.replace('0x', '').toLowerCase()
      assert.equal(answer.report_data, digits.padEnd(128, '0'))
    }
    for (const [text, error, code] of [
      ['ab'.repeat(65), /^Report data is too long$/, 'REPORT_DATA_TOO_LONG'],
      ['ab'.repeat(5000), /^Report data is too long$/, 'REPORT_DATA_TOO_LONG'],
      ['0xabc', /^Invalid report_data: 3 hex digits, an odd number$/, 'INVALID_REQUEST'],
      ['xyz', /^Invalid report_data: "x" at digit 1 is no hex digit$/, 'INVALID_REQUEST'],
    ] as const) {
      for (const path of ['/GetQuote', '/v0/GetQuote']) {
        for (const [where, body] of [
          [`${path}?report_data=${text}`, undefined],
          [path, JSON.stringify({ report_data: text })],
        ] as const) {
          const [status, answer] = await host.json(where, body)
          assert.equal(status, 400)
          assert.deepEqual(Object.keys(answer), ['error', 'code'])
          assert.match(answer.error ?? '', error)
          assert.equal(answer.code, code)
        }
      }
    }
    const [status, answer] = await host.json('/GetQuote?encoding=utf8')
    assert.deepEqual([status, answer.code], [400, 'INVALID_REQUEST'])
  })

  test('whatever is asked, the answer is about it or an error in this dialect', async () => {
    const text = fc.oneof(
      fc.string({ unit: 'grapheme', maxLength: 200 }),
      fc.uint8Array({ maxLength: 70 }).map((bytes) => Buffer.from(bytes).toString('hex')),
    )
    await fc.assert(
      fc.asyncProperty(text, fc.boolean(), async (report_data, byGet) => {
        const [status, answer] = byGet
          ? await host.json(`/GetQuote?report_data=${encodeURIComponent(report_data)}`)
          : await host.json('/GetQuote', JSON.stringify({ report_data }))
        const digits = report_data.replace(/^0x/i, '')
        const good = /^([0-9a-f]{2}){0,64}$/i.test(digits)
        assert.equal(status, good ? 200 : 400)
        if (good) assert.equal(answer.report_data, digits.toLowerCase().padEnd(128, '0'))
        else assert.ok(typeof answer.error === 'string' && typeof answer.code === 'string')
      }),
      { numRuns: 150 },
    )
  })

  test('no quote is made for a HEAD', async () => {
    for (const path of ['/GetQuote', '/v0/GetQuote', '/cvmd/tdx/tdreport']) {
      const answer = await host.request(path, { method: 'HEAD' })
      assert.equal(answer.status, 405)
      assert.equal(answer.headers.get('allow'), 'GET, POST')
    }
  })
})

test('a key needs tdx:quote to quote and tdx:read to read', async () => {
  const reader = await served(fakeTdx(), {}, ['tdx:read'])
  const quoter = await served(fakeTdx(), {}, ['tdx:quote'])
  for (const [path, body, host] of [
    ['/GetQuote', undefined, reader],
    ['/GetQuote', '{}', reader],
    ['/v0/GetQuote', undefined, reader],
    ['/v0/GetQuote', '{}', reader],
    ['/cvmd/tdx/tdreport', undefined, reader],
    ['/cvmd/tdx/tdreport', '{}', reader],
    ['/cvmd/tdx/registers', undefined, quoter],
    ['/cvmd/tdx/ccel', undefined, quoter],
  ] as const) {
    const [status, { code }] = await host.json(path, body)
    assert.deepEqual([status, code], [403, 'SCOPE_MISSING'], path)
  }
  assert.equal((await reader.json('/cvmd/tdx/registers'))[0], 200)
  assert.equal((await quoter.json('/GetQuote'))[0], 200)
})

test('operators read registers, boot log and TDREPORT', async () => {
  const host = await served(fakeTdx([], BOOT_LOG))
  const [, registers] = await host.json('/cvmd/tdx/registers')
  assert.deepEqual(Object.keys(registers), [
    'mrtd',
    'mrconfigid',
    'mrowner',
    'mrownerconfig',
    ...RTMRS,
  ])
  const [, quote] = await host.json('/GetQuote')
  for (const name of RTMRS) assert.equal(registers[name], quote[name])

  const log = await host.request('/cvmd/tdx/ccel')
  assert.equal(log.headers.get('content-type'), 'application/octet-stream')
  assert.deepEqual(new Uint8Array(await log.arrayBuffer()), BOOT_LOG)
  const bare = await served(fakeTdx())
  const [status, { code }] = await bare.json('/cvmd/tdx/ccel')
  assert.deepEqual([status, code], [404, 'CCEL_NOT_FOUND'])

  const query = await host.request('/cvmd/tdx/tdreport?report_data=0x1234deadbeef')
  const body = '{"report_data":"1234deadbeef"}'
  const posted = await host.request('/cvmd/tdx/tdreport', { method: 'POST', body })
  for (const answer of [query, posted]) {
    const report = Buffer.from(await answer.arrayBuffer())
    assert.equal(report.length, 1024)
    assert.equal(report.subarray(128, 192).toString('hex'), PADDED)
  }
  const long = await host.json(`/cvmd/tdx/tdreport?report_data=${'ab'.repeat(65)}`)
  assert.deepEqual([long[0], long[1].code], [400, 'REPORT_DATA_TOO_LONG'])
  assert.equal(long[1].detail, 'Report data is too long', 'problem+json below /cvmd/')
})

test('what goes wrong in the device has a status and a code of its own', async () => {
  const fake = fakeTdx()
  const host = await served(fake)
  const io = (errno: string) => new DeviceError(errno, 'read', '/sys/kernel/config/tsm/report/x')
  for (const [thrown, status, code] of [
    [new QueueError('QUEUE_FULL', 'full', 2500), 429, 'DEVICE_QUEUE_FULL'],
    [new QueueError('DEADLINE', 'late'), 504, 'DEVICE_TIMEOUT'],
    [io('EBUSY'), 503, 'DEVICE_BUSY'],
    [io('ETIMEDOUT'), 504, 'DEVICE_TIMEOUT'],
    [io('EIO'), 502, 'DEVICE_FAILED'],
    [io('ENXIO'), 502, 'DEVICE_FAILED'],
    [new Error('a fault of our own'), 500, 'INTERNAL_ERROR'],
  ] as const) {
    fake.fault = () => {
      throw thrown
    }
    const answer = await host.request('/GetQuote')
    assert.equal(answer.status, status)
    assert.equal(((await answer.json()) as Answer).code, code)
    if (status === 429) assert.equal(answer.headers.get('retry-after'), '3')
    assert.equal((await host.request('/cvmd/tdx/registers')).status, status)
  }
})

test('a quote about something else, or none at all, is never an answer', async () => {
  const fake = fakeTdx()
  const other = await fake.attester.evidence(new Uint8Array(64).fill(9))
  const good = other.platform === 'tdx' ? other.quote : new Uint8Array()
  for (const quote of [good, good.subarray(0, 700), new Uint8Array(), new Uint8Array(5000)]) {
    const evidence = async () => ({ ...other, quote })
    const host = await served({ ...fake, attester: { ...fake.attester, evidence } as never })
    const [status, answer] = await host.json('/GetQuote?report_data=01')
    assert.deepEqual([status, answer.code], [502, 'QUOTE_UNUSABLE'])
    assert.equal(answer.quote, undefined)
  }
})

test('a machine of the other kind is named, with the call to use', async () => {
  const host = await served(fakeNsm())
  const [status, { error, code }] = await host.json('/GetQuote')
  assert.deepEqual([status, code], [400, 'WRONG_PLATFORM'])
  assert.match(error ?? '', /this machine is an AWS Nitro enclave, use GET \/GetAttestation$/)
  assert.equal((await host.request('/cvmd/tdx/registers')).status, 400)
})

test('the device hears for whom it works, and when they go away', async () => {
  const fake = fakeTdx()
  const host = await served(fake)
  let reached = () => {}
  const working = new Promise<void>((resolve) => {
    reached = resolve
  })
  fake.fault = () => {
    reached()
    return new Promise(() => {})
  }
  const abort = new AbortController()
  void host.request('/GetQuote', { signal: abort.signal }).catch(() => undefined)
  await working
  assert.equal(fake.calls[0]?.caller, 'test 127.0.0.1 k')
  assert.equal(fake.calls[0]?.signal?.aborted, false)
  abort.abort()
  assert.equal(fake.calls[0]?.signal?.aborted, true)
})

describe('vm_config', () => {
  test('comes from a file, which is read at the start', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'cvmd-test-'))
    const file = join(folder, 'vm.json')
    writeFileSync(file, '{"name":"é"}')
    assert.deepEqual(tdx.permissions?.({ vm_config: { file }, self_test_interval_ms: 0 }), {
      read: [file],
    })
    const host = await served(fakeTdx(), { vm_config: { file } })
    assert.equal((await host.json('/GetQuote'))[1].vm_config, '{"name":"é"}')
    for (const content of [new Uint8Array([0xff]), 'x'.repeat(64 * 1024 + 1)]) {
      writeFileSync(file, content)
      await assert.rejects(served(fakeTdx(), { vm_config: { file } }), /Cannot read ".*vm\.json"/)
    }
    await assert.rejects(served(fakeTdx(), { vm_config: { file: join(folder, 'none') } }))
    rmSync(folder, { recursive: true })
  })
})

test('the event log hears of a device that fails its self-test, not of a busy one', async () => {
  for (const [thrown, messages] of [
    [new DeviceError('EIO', 'read', '/x/outblob'), [/^self-test failed: Cannot read .*EIO$/]],
    [new QueueError('QUEUE_FULL', 'full', 1000), []],
  ] as const) {
    const fake = fakeTdx()
    fake.fault = () => {
      throw thrown
    }
    const host = await served(fake, { self_test_interval_ms: 60_000 })
    // It is a call like any other: whoever asks after it is answered after it.
    await host.json('/GetQuote')
    const found = host.messages()
    assert.equal(found.length, messages.length)
    for (const [i, message] of messages.entries()) assert.match(found[i] ?? '', message)
  }
})

test('figures tell of every quote', async () => {
  const fake = fakeTdx()
  const host = await served(fake, { self_test_interval_ms: 60_000 })
  // The first test began at the start; it ends with the quotes asked for after it.
  await host.json('/GetQuote')
  fake.fault = () => {
    throw new DeviceError('EIO', 'read', 'outblob')
  }
  await host.json('/GetQuote')
  const text = await host.metrics.render()
  assert.match(text, /^cvmd_tdx_quotes_total\{outcome="made"\} 2$/m)
  assert.match(text, /^cvmd_tdx_quotes_total\{outcome="EIO"\} 1$/m)
  assert.match(text, /^cvmd_tdx_quote_age_seconds [0-9.e-]+$/m)
})
