/** A KMS whose policy service misbehaves, or is away: nobody gets anything, and it serves on. */
import assert from 'node:assert/strict'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { askUnverified } from './helpers/kms-answers.ts'
import { type KmsDaemon, type KmsSite, kmsSite } from './helpers/kms-daemon.ts'

const YES = JSON.stringify({ isAllowed: true, gatewayAppId: '', reason: '' })
const SIZE = { 'content-length': String(YES.length) }

let site: KmsSite
let kms: KmsDaemon
let service: Server
/** What the service does, and how many questions it was asked. */
let answer: RequestListener
let asked = 0

const honest: RequestListener = (_request, response) => response.end(YES)

before(async () => {
  answer = honest
  service = createServer((request, response) => {
    asked += 1
    request.resume()
    response.on('error', () => undefined)
    answer(request, response)
  })
  await new Promise<void>((done) => service.listen(0, '127.0.0.1', done))
  const { port } = service.address() as AddressInfo
  site = await kmsSite()
  const policy = `type = "webhook"\nurl = "http://127.0.0.1:${port}"\ndeadline_ms = 1000`
  kms = await site.kms({ policy })
  await kms.bootstrap()
})
after(async () => {
  service?.closeAllConnections()
  service?.close()
  await site?.close()
})

/** Anybody may ask for this, if the policy allows the KMS itself. */
const ask = async () => askUnverified(await kms.url(), '/prpc/GetTempCaCert?json')

const MISBEHAVIOUR: readonly (readonly [what: string, reason: string, RequestListener])[] = [
  ['says nothing', 'POLICY_TIMEOUT', () => undefined],
  [
    'is slow, a byte at a time',
    'POLICY_TIMEOUT',
    (_request, response) => {
      response.writeHead(200, SIZE)
      let sent = 0
      const drip = setInterval(() => response.write(YES[sent++] ?? ' '), 100)
      response.on('close', () => clearInterval(drip))
    },
  ],
  [
    'cuts its answer',
    'POLICY_UNREACHABLE',
    (_request, response) => {
      response.writeHead(200, SIZE)
      response.write(YES.slice(0, -1), () => response.destroy())
    },
  ],
  ['hangs up', 'POLICY_UNREACHABLE', (request) => request.socket.destroy()],
  [
    'says too much',
    'POLICY_TOO_LARGE',
    (_request, response) => response.end(`${' '.repeat(100_000)}${YES}`),
  ],
  [
    'sends to another',
    'POLICY_REFUSED',
    ({ url }, response) => {
      if (url === '/yes') return response.end(YES)
      return response.writeHead(307, { location: '/yes' }).end(YES)
    },
  ],
  ['says yes with an error', 'POLICY_REFUSED', (_, response) => response.writeHead(503).end(YES)],
  ['answers with a page', 'POLICY_MALFORMED', (_, response) => response.end(`<html>${YES}</html>`)],
  ['answers with nothing', 'POLICY_MALFORMED', (_, response) => response.writeHead(204).end()],
  ['answers half', 'POLICY_MALFORMED', (_, response) => response.end('{"isAllowed":true}')],
  [
    'answers compressed',
    'POLICY_MALFORMED',
    (_, response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(YES)),
  ],
  [
    'says yes in another form',
    'POLICY_MALFORMED',
    (_, response) => response.end(YES.replace('true', '"true"')),
  ],
]

describe('a policy service that', () => {
  for (const [what, reason, misbehave] of MISBEHAVIOUR) {
    test(`${what} lets nobody have anything`, async () => {
      answer = misbehave
      const { status, json } = await ask()
      const error = 'KMS self authorization failed: the policy gave no answer'
      assert.deepEqual([status, json], [500, { error, code: 'INTERNAL_ERROR' }])
      const { requests } = await kms.status()
      assert.ok(requests.some((one) => one.method === 'GetTempCaCert' && one.reason === reason))
      // Who the KMS is does not hang on it.
      assert.equal((await askUnverified(await kms.url(), '/prpc/GetMeta?json')).status, 200)
      answer = honest
      assert.equal((await ask()).status, 200)
    })
  }

  test('is slow is not asked more by many than by one', async () => {
    let isFree = () => {}
    const free = new Promise<void>((resolve) => {
      isFree = resolve
    })
    answer = (_request, response) => void free.then(() => response.end(YES))
    asked = 0
    const url = await kms.url()
    const all = Array.from({ length: 100 }, () => askUnverified(url, '/prpc/GetTempCaCert?json'))
    const early = await Promise.race(all)
    // The first question was given up by then, and the others wait for the next.
    assert.equal(early.status, 500)
    isFree()
    const late = await Promise.all(all)
    assert.ok(late.every(({ status }) => status === 200 || status === 500))
    assert.ok(asked <= 20, `${asked} questions`)
    answer = honest
    assert.equal((await ask()).status, 200)
  })
})
