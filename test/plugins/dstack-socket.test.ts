/**
 * What the published JavaScript client needs of a socket (spec dstack §12), which it reads by itself:
 * a length, as many characters as bytes, and an end of the connection when it half-closes.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import nitro from '../../plugins/nitro/index.ts'
import tdx from '../../plugins/tdx/index.ts'
import { type Fake, fakeNsm, fakeTdx } from '../helpers/attester.ts'
import { serveTest, type TestServer } from '../helpers/http-server.ts'
import { type RawAnswer, RawClient, rawRequest } from '../helpers/raw-http.ts'

const DIALECT = { core: false, dialect: 'dstack' } as const
const PATIENCE_MS = 10_000

/** Sends a request as that client does, in six writes, and half-closes when the body is there. */
async function ask(server: TestServer, path: string, body: string, length = body.length) {
  const client = await RawClient.connect(server.target)
  try {
    client.send(`POST ${path} HTTP/1.1\r\n`)
    client.send('Host: localhost\r\n')
    client.send('Content-Type: application/json\r\n')
    client.send(`Content-Length: ${length}\r\n`)
    client.send('\r\n')
    client.send(Buffer.from(body))
    const answer = await client.answer(PATIENCE_MS)
    client.halfClose()
    return { answer, closed: await client.closed(PATIENCE_MS) }
  } finally {
    client.destroy()
  }
}

function jsonOf(answer: RawAnswer | undefined): Record<string, unknown> {
  assert.ok(answer)
  assert.equal(answer.headers.get('transfer-encoding'), undefined)
  assert.equal(answer.headers.get('content-length'), String(answer.body.length))
  assert.equal(answer.headers.get('content-type'), 'application/json')
  assert.match(answer.body, /^[\x20-\x7e]*$/)
  return JSON.parse(answer.body) as Record<string, unknown>
}

for (const [name, plugin, path, make] of [
  ['tdx', tdx, '/GetQuote', fakeTdx],
  ['nitro', nitro, '/GetAttestation', fakeNsm],
] as const) {
  describe(`${name} on an application's socket`, () => {
    let fake: Fake
    let server: TestServer

    before(async () => {
      fake = make()
      const services = { attestation: fake.attester }
      server = await serveTest([plugin], DIALECT, { unix: true, services })
    })
    after(() => server.stop())

    test('an answer can be read by its length, and the connection ends after it', async () => {
      const { answer, closed } = await ask(server, path, '{"report_data":"01","user_data":"02"}')
      assert.equal(answer?.status, 200)
      assert.ok(Object.keys(jsonOf(answer)).length > 0)
      assert.ok(closed)
    })

    test('so can an error, whatever characters it repeats', async () => {
      for (const [where, body, status] of [
        [path, '{"report_data":"\\ud83d\\ude00","user_data":"\\u00e9"}', 400],
        [path, `{"report_data":"${'ab'.repeat(65)}","user_data":"${'ab'.repeat(1025)}"}`, 400],
        [path, '\n\u0002report', 415],
        ['/Nothing', '{}', 404],
        ['/v9/Nothing', '', 404],
      ] as const) {
        const { answer, closed } = await ask(server, where, body)
        assert.equal(answer?.status, status, where)
        const { error, code } = jsonOf(answer)
        assert.equal(typeof error, 'string')
        assert.match(String(code), /^[A-Z_]+$/)
        if (status === 404) assert.equal(error, 'Service not found: Nothing')
        assert.ok(closed, where)
      }
    })

    test('a length that counts characters is refused, and the rest never taken', async () => {
      const body = '{"report_data":"01","path":"\u00e9\u00e9\u00e9"}'
      const { answer, closed } = await ask(server, path, body, body.length)
      assert.equal(answer?.status, 400)
      // Node's parser meets the rest before anybody reads the body, and answers by itself.
      if (answer?.body !== '') assert.match(String(jsonOf(answer).error), /Content-Length/)
      assert.ok(closed)
    })

    test('a short curl by GET gets the same form', async () => {
      const request = (method: string) => `${method} ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`
      const answer = await rawRequest(server.target, request('GET'), PATIENCE_MS)
      assert.equal(answer?.status, 200)
      jsonOf(answer)
      const head = await rawRequest(server.target, request('HEAD'), PATIENCE_MS)
      assert.equal(head?.status, 405)
      assert.equal(head?.headers.get('allow'), 'GET, POST')
    })

    test('a client that half-closes before its answer still gets one', async () => {
      const client = await RawClient.connect(server.target)
      client.send(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`)
      client.halfClose()
      const answer = await client.answer(PATIENCE_MS)
      jsonOf(answer)
      assert.ok(await client.closed(PATIENCE_MS))
      client.destroy()
    })

    test('the device hears of a client that went away', async () => {
      let reached = () => {}
      const working = new Promise<void>((resolve) => {
        reached = resolve
      })
      fake.fault = () => {
        reached()
        return new Promise(() => {})
      }
      const client = await RawClient.connect(server.target)
      client.send(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`)
      await working
      const { signal } = fake.calls.at(-1) ?? {}
      assert.ok(signal && !signal.aborted)
      const aborted = new Promise((resolve) => signal.addEventListener('abort', resolve))
      client.destroy()
      await aborted
      fake.fault = () => undefined
    })

    test('what is below /cvmd/ is not there', async () => {
      const { answer } = await ask(server, `/cvmd/${name}/registers`, '')
      assert.equal(answer?.status, 404)
    })
  })
}
