import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { after, before, test } from 'node:test'
import { readContainer } from '../../src/attest/container.ts'
import { attestationReportData } from '../../src/attest/report-binding.ts'
import { acceptedDocument, bytesOf, clearUp, type GuestHost, guestOn, hexOf } from './guest-host.ts'

let host: GuestHost
before(async () => {
  host = await guestOn('nitro', { emit_event: true })
})
after(clearUp)

test('Info has the ids that the registers say, and no registers of TDX', async () => {
  const { nsm } = host.machine.attester
  const pcr = async (index: number) => (await nsm?.describePcr(index))?.value ?? new Uint8Array()
  const sha256 = async (...indices: number[]) => {
    const hash = createHash('sha256')
    for (const index of indices) hash.update(await pcr(index))
    return hash.digest('hex')
  }
  for (const path of ['/Info', '/v0/Info', '/v1/Info', '/prpc/Tappd.Info']) {
    const [status, info] = await host.json(path)
    assert.equal(status, 200, path)
    assert.equal(info.os_image_hash, await sha256(0, 1, 2))
    assert.equal(info.device_id, await sha256(4))
    assert.equal(info.mr_aggregated, '')
    assert.equal(info.cloud_product, 'NOT A REAL TEE')
    if (path === '/v1/Info') continue
    const tcb = JSON.parse(info.tcb_info ?? '')
    const registers = [tcb.mrtd, tcb.rtmr0, tcb.rtmr1, tcb.rtmr2, tcb.rtmr3]
    assert.deepEqual(registers, [null, null, null, null, null])
    assert.deepEqual(tcb.event_log, [])
    assert.equal(tcb.os_image_hash, info.os_image_hash)
  }
})

test('Attest holds a document over the report data', async () => {
  const data = randomBytes(64)
  for (const path of ['/Attest', '/v0/Attest', '/v1/Attest']) {
    const [status, answer] = await host.json(path, { report_data: hexOf(data) })
    assert.equal(status, 200)
    const { platform, stack, version } = readContainer(bytesOf(answer.attestation))
    assert.ok(platform.kind === 'nitro-enclave')
    assert.equal(version, 0)
    assert.deepEqual(stack.runtimeEvents, [])
    const userData = acceptedDocument(platform.document, host.machine.trust)
    assert.deepEqual([hexOf(userData), hexOf(stack.reportData)], [hexOf(data), hexOf(data)])
  }
})

test('/attestation is a document over the hash of the nonce', async () => {
  const [status, answer] = await host.json('/attestation?nonce=abcd')
  assert.equal(status, 200)
  assert.deepEqual(Object.keys(answer), [
    ...['platform', 'document', 'event_log', 'report_data', 'nonce'],
    ...['app_id', 'compose_hash', 'instance_id', 'vm_config', 'timestamp'],
  ])
  const document = new Uint8Array(Buffer.from(answer.document ?? '', 'base64'))
  const expected = hexOf(attestationReportData(bytesOf('abcd')))
  assert.equal(hexOf(acceptedDocument(document, host.machine.trust)), expected)
  assert.deepEqual([answer.platform, answer.event_log], ['nitro', '[]'])
})

test('calls of TDX name the platform and the call to use, never an empty quote', async () => {
  for (const [path, body] of [
    ['/GetQuote?report_data=01'],
    ['/GetQuote', { report_data: '01' }],
    ['/v0/GetQuote'],
    ['/prpc/Tappd.TdxQuote'],
    ['/prpc/TdxQuote', { report_data: '01' }],
    ['/prpc/RawQuote', { report_data: '00'.repeat(64) }],
  ] as const) {
    const [status, answer] = await host.json(path, body)
    assert.deepEqual([status, answer.code], [400, 'WRONG_PLATFORM'], path)
    assert.match(answer.error ?? '', /an AWS Nitro enclave, use GET \/GetAttestation$/)
    assert.deepEqual(Object.keys(answer), ['error', 'code'])
  }
})

test('no event can be measured', async () => {
  for (const path of ['/EmitEvent', '/v0/EmitEvent']) {
    const [status, answer] = await host.json(path, { event: 'login', payload: '00' })
    assert.deepEqual([status, answer.code], [400, 'EVENTS_UNSUPPORTED'])
  }
  assert.deepEqual(await host.machine.attester.runtimeEvents.list(), [])
  assert.deepEqual(host.messages(), [])
})

test('asked to measure who the application is, the plugin does not start', async () => {
  await assert.rejects(guestOn('nitro', { measure_identity: true }), /no register/)
})
