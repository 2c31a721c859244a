import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { VERSION } from '../../src/version.ts'
import {
  type Answer,
  accepted,
  bytesOf,
  clearUp,
  filesWith,
  type GuestHost,
  guestOn,
  hexOf,
  replays,
} from './guest-host.ts'

after(clearUp)

const MEMBERS = [
  ...['platform', 'quote', 'event_log', 'report_data', 'nonce'],
  ...['app_id', 'compose_hash', 'instance_id', 'vm_config', 'timestamp'],
]

/** What report data has to be, computed here by its description. */
function boundTo(nonce: string): string {
  return createHash('sha512').update('cvmd-attestation:').update(bytesOf(nonce)).digest('hex')
}

/** Counts the reads of a file, and holds them back until the test lets them go. */
function counted(host: GuestHost, suffix: string, until?: Promise<undefined>) {
  let calls = 0
  host.machine.fault = ({ path, operation }) => {
    if (operation !== 'read' || !path.endsWith(suffix)) return undefined
    calls++
    return until
  }
  return { calls: () => calls }
}

describe('/attestation', () => {
  test('is bound to the hash of the nonce, and convinces a verifier', async () => {
    const host = await guestOn('tdx')
    for (const nonce of ['01', 'AB'.repeat(32), `0x${'cd'.repeat(64)}`]) {
      const [status, answer] = await host.json(`/attestation?nonce=${nonce}`)
      assert.equal(status, 200)
      assert.deepEqual(Object.keys(answer), MEMBERS)
      const digits = nonce.replace('0x', '').toLowerCase()
      const quote = accepted(bytesOf(answer.quote), host.machine.trust)
      assert.equal(hexOf(quote.reportData), boundTo(digits))
      assert.deepEqual([answer.report_data, answer.nonce], [boundTo(digits), digits])
      assert.ok(replays(answer.event_log ?? '', quote))
      assert.match(answer.timestamp ?? '', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
      const [, info] = await host.json('/Info')
      for (const id of ['app_id', 'compose_hash', 'instance_id']) assert.equal(answer[id], info[id])
    }
  })

  test('never takes report data as it is', async () => {
    const host = await guestOn('tdx')
    const wanted = 'ab'.repeat(64)
    for (const query of ['report_data', 'user_data', 'reportData']) {
      const [status, answer] = await host.json(`/attestation?${query}=${wanted}`)
      assert.deepEqual([status, answer.report_data], [200, boundTo('')])
    }
    const [, answer] = await host.json(`/attestation?nonce=${wanted}&report_data=${wanted}`)
    assert.equal(answer.report_data, boundTo(wanted))
  })

  test('takes a nonce of up to 64 bytes in hex', async () => {
    const host = await guestOn('tdx')
    for (const [nonce, code] of [
      ['ab'.repeat(65), 'NONCE_TOO_LONG'],
      ['abc', 'INVALID_REQUEST'],
      ['zz', 'INVALID_REQUEST'],
    ] as const) {
      const [status, answer] = await host.json(`/attestation?nonce=${nonce}`)
      assert.deepEqual([status, answer.code], [400, code])
    }
    const post = await host.request('/attestation', { method: 'POST', body: '{}' })
    assert.equal(post.status, 405)
  })

  test('without a nonce is given again for a while', async () => {
    const host = await guestOn('tdx', { attestation_cache_ms: 600_000 })
    const [, first] = await host.json('/attestation')
    assert.equal(first.report_data, boundTo(''))
    assert.deepEqual((await host.json('/attestation'))[1], first)
    assert.deepEqual((await host.json('/attestation?nonce='))[1], first)
    const fresh = await guestOn('tdx', { attestation_cache_ms: 0 })
    const { calls } = counted(fresh, '/outblob')
    for (const made of [1, 2]) {
      assert.equal((await fresh.json('/attestation'))[0], 200)
      assert.equal(calls(), made)
    }
  })

  test('is made once for all who ask without a nonce meanwhile', async () => {
    const host = await guestOn('tdx', { attestation_cache_ms: 600_000 })
    let release = () => {}
    const released = new Promise<undefined>((resolve) => {
      release = () => resolve(undefined)
    })
    const { calls } = counted(host, '/outblob', released)
    const asked = Array.from({ length: 30 }, () => host.json('/attestation'))
    // One of them going away takes it from none of the others.
    const abort = new AbortController()
    const left = host.request('/attestation', { signal: abort.signal })
    abort.abort()
    release()
    const quotes = new Set((await Promise.all(asked)).map(([, answer]) => answer.quote))
    assert.deepEqual([quotes.size, calls()], [1, 1])
    assert.ok(![...quotes].includes(undefined))
    await left.catch(() => undefined)
  })

  test('that failed is not kept', async () => {
    const host = await guestOn('tdx', { attestation_cache_ms: 600_000 })
    host.machine.fault = ({ path }) => (path.endsWith('/outblob') ? 'EIO' : undefined)
    const [status, { code }] = await host.json('/attestation')
    assert.deepEqual([status, code], [502, 'DEVICE_FAILED'])
    host.machine.fault = () => undefined
    assert.equal((await host.json('/attestation'))[0], 200)
  })

  test('with a nonce is limited for all callers together', async () => {
    const host = await guestOn('tdx', { attestations_per_minute: 2 })
    const nonce = () => hexOf(randomBytes(16))
    assert.equal((await host.json(`/attestation?nonce=${nonce()}`))[0], 200)
    assert.equal((await host.json(`/attestation?nonce=${nonce()}`))[0], 200)
    const answer = await host.request(`/attestation?nonce=${nonce()}`)
    assert.equal(answer.status, 429)
    const seconds = Number(answer.headers.get('retry-after'))
    assert.ok(seconds >= 1 && seconds <= 30, `${seconds}`)
    assert.equal(((await answer.json()) as Answer).code, 'ATTESTATION_LIMIT')
    assert.equal((await host.json('/attestation'))[0], 200, 'without a nonce still')
    assert.equal((await host.json('/Attest'))[0], 200, 'the application still')
  })
})

/** The plugin with an app-compose.json of these members. */
async function withCompose(compose: object, config: object = {}): Promise<GuestHost> {
  const sysConfig = JSON.stringify({ vm_config: '{"cpu_count":3}' })
  const folder = filesWith({ 'app.json': JSON.stringify(compose), 'sys.json': sysConfig })
  const files = { app_compose: join(folder, 'app.json'), sys_config: join(folder, 'sys.json') }
  const key_provider = { name: 'kms', id: 'abcd' }
  return guestOn('tdx', { ...files, key_provider, ...config })
}

describe('what the application makes public', () => {
  test('is its registers and configuration unless it says no', async () => {
    for (const [compose, config, shown] of [
      [{}, {}, true],
      [{ public_tcbinfo: true }, {}, true],
      [{ public_tcbinfo: false }, {}, false],
      [{ public_tcbinfo: false }, { public_tcbinfo: true }, true],
      [{ public_tcbinfo: true }, { public_tcbinfo: false }, false],
    ] as const) {
      const host = await withCompose(compose, config)
      const [, local] = await host.json('/Info')
      for (const path of ['/prpc/Worker.Info', '/prpc/Info']) {
        for (const body of [undefined, {}]) {
          const answer = await host.request(path, body ? { method: 'POST', body: '{}' } : {})
          assert.equal(answer.headers.get('x-app-version'), `v${VERSION}`)
          const info = (await answer.json()) as Answer
          const hidden = { ...local, tcb_info: '{}', vm_config: '' }
          assert.deepEqual(info, shown ? local : hidden)
        }
      }
      const [, v1] = await host.json('/v1/Info')
      const hidden = { ...v1, app_compose: '', vm_config: '', key_provider_info: '' }
      for (const path of ['/prpc/v1/Worker.Info', '/prpc/v1/Info']) {
        assert.deepEqual((await host.json(path))[1], shown ? v1 : hidden)
      }
      const [, attestation] = await host.json('/attestation')
      assert.equal(attestation.vm_config, shown ? '{"cpu_count":3}' : '')
      assert.equal((await host.json('/Info'))[1].vm_config, '{"cpu_count":3}')
    }
  })

  test('is figures of the machine only when it says so', async () => {
    for (const [compose, config, status] of [
      [{}, {}, 404],
      [{ public_sysinfo: false }, {}, 404],
      [{ public_sysinfo: true }, { public_sysinfo: false }, 404],
      [{ public_sysinfo: true }, {}, 200],
      [{}, { public_sysinfo: true }, 200],
    ] as const) {
      const host = await withCompose(compose, config)
      const answer = await host.request('/metrics')
      assert.equal(answer.status, status)
      const text = await answer.text()
      if (status === 404) {
        assert.equal(JSON.parse(text).code, 'SERVICE_NOT_FOUND')
        continue
      }
      assert.match(answer.headers.get('content-type') ?? '', /^text\/plain/)
      assert.match(text, /^# TYPE system_num_cpus gauge\nsystem_num_cpus [1-9]\d*$/m)
      assert.match(text, /^system_memory_total [1-9]\d+$/m)
      assert.match(text, /^system_uptime \d+$/m)
      for (const line of text.trimEnd().split('\n')) {
        assert.match(line, /^(# TYPE \w+ gauge|\w+(\{.*\})? \d+(\.\d+)?)$/)
      }
    }
  })
})

test('the page of a hostile application is text, not markup', async () => {
  const name = `<script>alert("1")</script>&'é\u{1f600}`
  const host = await withCompose({ name })
  const answer = await host.request('/')
  assert.equal(answer.status, 200)
  assert.match(answer.headers.get('content-type') ?? '', /^text\/html/)
  assert.match(answer.headers.get('content-security-policy') ?? '', /default-src 'none'/)
  assert.equal(answer.headers.get('x-app-version'), `v${VERSION}`)
  const html = await answer.text()
  assert.ok(!html.includes('<script'))
  assert.match(html, /^[\n\x20-\x7e]*$/)
  const unescaped = html.replace(/&#(\d+);/g, (_, code) => String.fromCodePoint(Number(code)))
  assert.equal(unescaped.split(name).length, 4, 'in title, heading and table')
  assert.match(html, /Simulated machine: nothing here is protected/)
  const [, info] = await host.json('/Info')
  for (const id of ['app_id', 'instance_id', 'compose_hash'])
    assert.ok(html.includes(info[id] ?? '?'))
})
