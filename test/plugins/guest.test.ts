import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import fc from 'fast-check'
import { MachineFactsReader } from '../../plugins/guest/info.ts'
import { readContainer, stripContainer, writeContainer } from '../../src/attest/container.ts'
import { runtimeEventOf } from '../../src/attest/runtime-event.ts'
import { parsePckExtension, pckChainOf } from '../../src/attest/tdx/pck.ts'
import type { Attester } from '../../src/attester/attester.ts'
import type { TdxDevice } from '../../src/device/devices.ts'
import type { Fault } from '../../src/simulate/machine.ts'
import { VERSION } from '../../src/version.ts'
import { simulatedMachine } from '../helpers/simulated-machine.ts'
import {
  accepted,
  bytesOf,
  clearUp,
  filesWith,
  type GuestHost,
  guestOn,
  hexOf,
  replays,
} from './guest-host.ts'

const COMPOSE = '{"name":"über-app \u{1f600}","runner":"docker-compose"}'
const IMAGE = '64f0d1545cd510a8dfed7ad609d105b5d41f0cb2afcfdda8867ede00c88add7a'
const VM_CONFIG = `{"os_image_hash":"${IMAGE}","cpu_count":1,"note":"é"}`

const INFO = [
  'app_id',
  'instance_id',
  'app_cert',
  'tcb_info',
  'app_name',
  'device_id',
  'mr_aggregated',
  'os_image_hash',
  'key_provider_info',
  'compose_hash',
  'vm_config',
  'cloud_vendor',
  'cloud_product',
]

const INFO_V1 = [
  'app_id',
  'app_name',
  'compose_hash',
  'app_compose',
  'instance_id',
  'device_id',
  'os_image_hash',
  'mr_aggregated',
  'vm_config',
  'key_provider_info',
  'cloud_vendor',
  'cloud_product',
]

test('without quotes Info names no device, and tries again', async () => {
  const machine = await simulatedMachine('tdx', { deadlineMs: 200 })
  const { tdx } = machine.attester
  const chain = Buffer.from(await (tdx as TdxDevice).quote(new Uint8Array(64)))
  // The platform told by its PPID: certification data of type 3 in place of 5.
  chain.writeUInt16LE(3, chain.indexOf('-----BEGIN') - 6)
  let outblob: Fault = () => 'EIO'
  machine.fault = (call) => (call.path.endsWith('/outblob') ? outblob(call) : undefined)
  const idOf = async (host: GuestHost) => {
    const [status, { device_id }] = await host.json('/Info')
    return [status, device_id] as const
  }
  const host = await guestOn('tdx', {}, { machine })
  assert.deepEqual(await idOf(host), [200, ''])
  outblob = () => 'hang'
  assert.deepEqual(await idOf(host), [200, ''])
  assert.deepEqual(await idOf(await guestOn('tdx', {}, { machine })), [200, ''])
  const other = await simulatedMachine('tdx')
  other.fault = ({ path }) => (path.endsWith('/outblob') ? chain : undefined)
  assert.deepEqual(await idOf(await guestOn('tdx', {}, { machine: other })), [200, ''])
  other.fault = () => undefined
  const [, id] = await idOf(await guestOn('tdx', {}, { machine: other }))
  assert.match(id ?? '', /^[0-9a-f]{64}$/)
})

test('the device is known before anybody asks', async () => {
  const machine = await simulatedMachine('tdx')
  const host = await guestOn('tdx', {}, { machine })
  await machine.attester.tdx?.quote(new Uint8Array(64))
  machine.fault = ({ path }) => (path.endsWith('/outblob') ? 'hang' : undefined)
  const [status, { device_id }] = await host.json('/Info')
  assert.equal(status, 200)
  assert.match(device_id ?? '', /^[0-9a-f]{64}$/)
})

const sha256 = (...parts: (string | Uint8Array)[]) => {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest('hex')
}

after(clearUp)

describe('on TDX', () => {
  let host: GuestHost

  before(async () => {
    const folder = filesWith({
      'app-compose.json': COMPOSE,
      'sys-config.json': JSON.stringify({ kms_urls: [], vm_config: VM_CONFIG }),
    })
    host = await guestOn('tdx', {
      app_compose: join(folder, 'app-compose.json'),
      sys_config: join(folder, 'sys-config.json'),
      key_provider: { name: 'kms', id: 'abcd' },
    })
  })

  test('Info says who the application is, and its log replays to the registers', async () => {
    const quote = await quoteOf(host)
    const [leaf] = pckChainOf(quote)
    for (const [path, body] of [
      ['/Info'],
      ['/Info', {}],
      ['/Info', 'no JSON at all'],
      ['/v0/Info'],
      ['/v0/Info', { unknown: 1 }],
      ['/prpc/Tappd.Info'],
      ['/prpc/Tappd.Info', {}],
    ] as const) {
      const [status, info] = await host.json(path, body)
      assert.equal(status, 200, path)
      assert.deepEqual(Object.keys(info), INFO, path)
      const composeHash = sha256(COMPOSE)
      assert.equal(info.app_name, 'über-app \u{1f600}')
      assert.equal(info.compose_hash, composeHash)
      assert.equal(info.app_id, composeHash.slice(0, 40))
      assert.match(info.instance_id ?? '', /^[0-9a-f]{40}$/)
      assert.equal(info.app_cert, '')
      assert.equal(info.os_image_hash, IMAGE)
      assert.equal(info.vm_config, VM_CONFIG)
      assert.equal(info.key_provider_info, '{"name":"kms","id":"abcd"}')
      assert.equal(info.device_id, sha256(parsePckExtension(leaf).ppid))
      assert.equal(info.mr_aggregated, sha256(quote.mrtd, ...quote.rtmr))
      assert.equal(info.cloud_vendor, 'cvmd simulator')
      assert.equal(info.cloud_product, 'NOT A REAL TEE')
      const tcb = JSON.parse(info.tcb_info ?? '')
      assert.deepEqual(Object.keys(tcb), [
        'mrtd',
        ...['rtmr0', 'rtmr1', 'rtmr2', 'rtmr3'],
        ...['mr_aggregated', 'os_image_hash', 'compose_hash', 'device_id'],
        ...['event_log', 'app_compose'],
      ])
      assert.equal(tcb.mrtd, hexOf(quote.mrtd))
      for (const [at, value] of quote.rtmr.entries()) assert.equal(tcb[`rtmr${at}`], hexOf(value))
      for (const name of ['mr_aggregated', 'os_image_hash', 'compose_hash', 'device_id']) {
        assert.equal(tcb[name], info[name])
      }
      assert.equal(tcb.app_compose, COMPOSE)
      assert.ok(replays(tcb.event_log, quote))
    }
  })

  test('Info of v1 shows no registers', async () => {
    const [, v0] = await host.json('/Info')
    for (const body of [undefined, {}]) {
      const [status, info] = await host.json('/v1/Info', body)
      assert.equal(status, 200)
      assert.deepEqual(Object.keys(info), INFO_V1)
      assert.equal(info.app_compose, COMPOSE)
      for (const name of INFO_V1.filter((name) => name !== 'app_compose')) {
        assert.equal(info[name], v0[name], name)
      }
    }
  })

  test('Version is the one of cvmd', async () => {
    const paths = ['/Version', '/v0/Version', '/v1/Version', '/prpc/Tappd.Version']
    for (const path of [...paths, '/prpc/Version', '/prpc/v1/Version', '/prpc/Worker.Version']) {
      for (const body of [undefined, {}]) {
        const [status, answer] = await host.json(path, body)
        assert.deepEqual([status, answer], [200, { version: VERSION, rev: '' }], path)
      }
    }
  })

  test('every answer is ASCII, has its length and is JSON', async () => {
    for (const [path, init, status] of [
      ['/Info', {}, 200],
      ['/v1/Info', { method: 'POST' }, 200],
      ['/prpc/Worker.Info', {}, 200],
      ['/attestation', {}, 200],
      ['/Attest?report_data=%C3%A9', {}, 400],
      ['/EmitEvent', { method: 'POST', body: '{"event":"é"}' }, 400],
      ['/Attest', { method: 'POST', body: 'é' }, 415],
    ] as const) {
      const answer = await host.request(path, init)
      const bytes = new Uint8Array(await answer.arrayBuffer())
      assert.equal(answer.status, status, path)
      assert.equal(answer.headers.get('content-type'), 'application/json', path)
      assert.equal(answer.headers.get('content-length'), String(bytes.length), path)
      assert.ok(
        bytes.every((byte) => byte >= 0x20 && byte < 0x7f),
        path,
      )
      const parsed = JSON.parse(Buffer.from(bytes).toString())
      if (path === '/Info') assert.equal(parsed.app_name, 'über-app \u{1f600}')
    }
  })

  test('Attest gives a container whose quote convinces a verifier, stripped or not', async () => {
    const reportData = randomBytes(40)
    const query = `?report_data=0x${reportData.toString('hex').toUpperCase()}`
    const body = { report_data: reportData.toString('hex') }
    for (const [path, sent, names] of [
      [`/Attest${query}`, undefined, ['attestation']],
      ['/Attest', body, ['attestation']],
      [`/v0/Attest${query}`, undefined, ['attestation']],
      ['/v0/Attest', body, ['attestation']],
      [`/v1/Attest${query}`, undefined, ['attestation', 'boottime_gpu_evidence']],
      ['/v1/Attest', body, ['attestation', 'boottime_gpu_evidence']],
    ] as const) {
      const [status, answer] = await host.json(path, sent)
      assert.equal(status, 200, path)
      assert.deepEqual(Object.keys(answer), names)
      if (names.length > 1) assert.deepEqual(answer.boottime_gpu_evidence, [])
      const container = readContainer(bytesOf(answer.attestation))
      const { platform, stack } = container
      assert.ok(platform.kind === 'tdx')
      const padded = Buffer.concat([reportData, Buffer.alloc(24)])
      const quote = accepted(platform.quote, host.machine.trust)
      assert.equal(hexOf(quote.reportData), hexOf(padded))
      assert.equal(hexOf(stack.reportData), hexOf(padded))
      assert.equal(stack.config, VM_CONFIG)
      assert.ok(replays(platform.eventLog, quote))
      const logged = platform.eventLog.filter(({ imr }) => imr === 3).map(runtimeEventOf)
      assert.deepEqual(stack.runtimeEvents, logged)
      const bare = readContainer(writeContainer(stripContainer(container)))
      assert.ok(bare.platform.kind === 'tdx')
      assert.deepEqual(bare.platform.quote, platform.quote)
      assert.ok(bare.platform.eventLog.length < platform.eventLog.length)
      const measured = bare.platform.eventLog.filter(({ imr }) => imr === 3).map(runtimeEventOf)
      assert.deepEqual(measured, logged)
    }
  })

  test('report data has 0 to 64 bytes', async () => {
    for (const data of ['', '0x', 'AB'.repeat(64), `0x${'00'.repeat(64)}`]) {
      assert.equal((await host.json('/Attest', { report_data: data }))[0], 200)
    }
    for (const [data, code] of [
      ['ab'.repeat(65), 'REPORT_DATA_TOO_LONG'],
      ['abc', 'INVALID_REQUEST'],
      ['xy', 'INVALID_REQUEST'],
    ] as const) {
      for (const path of ['/Attest', '/v0/Attest', '/v1/Attest']) {
        const byGet = await host.json(`${path}?report_data=${data}`)
        const byPost = await host.json(path, { report_data: data })
        for (const [status, answer] of [byGet, byPost]) {
          assert.deepEqual([status, answer.code], [400, code], path)
          assert.deepEqual(Object.keys(answer), ['error', 'code'])
        }
      }
    }
  })

  test('evidence of GPUs is refused, not left out', async () => {
    const asked = { include_boottime_gpu_evidence: true }
    const [status, answer] = await host.json('/v1/Attest', asked)
    assert.deepEqual([status, answer.code], [400, 'GPU_EVIDENCE_MISSING'])
  })

  test('no evidence is made for a HEAD', async () => {
    const [posted, got] = ['GET, POST', 'GET']
    for (const [path, allow] of [
      ...['/Attest', '/v0/Attest', '/v1/Attest'].map((at) => [at, posted] as const),
      ...['/prpc/Tappd.TdxQuote', '/prpc/RawQuote'].map((at) => [at, posted] as const),
      ['/attestation?nonce=01', got],
    ] as const) {
      const answer = await host.request(path, { method: 'HEAD' })
      assert.deepEqual([answer.status, answer.headers.get('allow')], [405, allow], path)
    }
  })

  test('the call of the other platform names the one to use', async () => {
    for (const [path, body] of [
      ['/GetAttestation?user_data=01'],
      ['/v0/GetAttestation'],
      ['/GetAttestation', { user_data: '01' }],
    ] as const) {
      const [status, answer] = await host.json(path, body)
      assert.deepEqual([status, answer.code], [400, 'WRONG_PLATFORM'])
      assert.match(answer.error ?? '', /an Intel TDX guest, use GET \/GetQuote$/)
    }
  })

  test('whatever is asked, the answer is what was asked for or an error in this dialect', async () => {
    const value = fc.oneof(
      fc.string({ unit: 'grapheme', maxLength: 80 }),
      fc.string({ unit: 'binary', maxLength: 20 }),
      fc.uint8Array({ maxLength: 70 }).map(hexOf),
      fc.jsonValue({ maxDepth: 3 }),
    )
    const field = fc.constantFrom(
      ...['report_data', 'event', 'payload', 'hash_algorithm', 'prefix', 'nonce', 'domain'],
      'include_boottime_gpu_evidence',
    )
    const path = fc.constantFrom(
      ...['/Attest', '/v0/Attest', '/v1/Attest', '/Info', '/EmitEvent', '/v0/EmitEvent'],
      ...['/prpc/TdxQuote', '/prpc/Tappd.RawQuote', '/attestation', '/prpc/Worker.Info'],
    )
    const known = new Set([200, 400, 405, 415, 429])
    await fc.assert(
      fc.asyncProperty(path, fc.dictionary(field, value), fc.boolean(), async (at, args, byGet) => {
        const query = Object.entries(args).map(
          ([name, value]) => `${name}=${encodeURIComponent(wellFormed(value))}`,
        )
        const [status, answer] = byGet
          ? await host.json(`${at}?${query.join('&')}`)
          : await host.json(at, args)
        assert.ok(known.has(status), `${status}`)
        if (status === 200) return
        assert.equal(typeof answer.error, 'string')
        assert.match(answer.code ?? '', /^[A-Z_]+$/)
      }),
      { numRuns: 300 },
    )
  })
})

/** Text that can stand in a query. */
function wellFormed(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  return Buffer.from(text).toString()
}

async function quoteOf(host: GuestHost) {
  const [, answer] = await host.json('/prpc/Tappd.RawQuote', { report_data: '00'.repeat(64) })
  return accepted(bytesOf(answer.quote), host.machine.trust)
}

test('a stop waits for the quote of the start, which would leave its report entry', async () => {
  let end: (error: Error) => void = () => undefined
  const quote = new Promise<Uint8Array>((_resolve, reject) => {
    end = reject
  })
  const tdx = { canQuote: true, quote: () => quote }
  const facts = new MachineFactsReader({ tdx } as unknown as Attester)
  facts.prepare()
  let stopped = false
  const stop = facts.stop().then(() => {
    stopped = true
  })
  await new Promise((tick) => setTimeout(tick, 20))
  assert.equal(stopped, false)
  end(new Error('the device is busy'))
  await stop
})
