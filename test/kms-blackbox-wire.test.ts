/**
 * A KMS in a process of its own, and those who speak no TLS, no HTTP, too much, too slowly or too
 * often. Afterwards it is as it was, and serves.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { after, describe, test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import fc from 'fast-check'
import {
  assertGivesKeys,
  assertNothingLeft,
  assertUnharmed,
  kmsAmongStrangers,
  OTHER,
  SHOP,
} from './helpers/kms-among-strangers.ts'
import { post } from './helpers/kms-stranger.ts'
import type { RawAnswer, RawClient } from './helpers/raw-http.ts'

const WAIT_MS = 20_000

const among = await kmsAmongStrangers()
const { kms, clientOf, memory } = among
/** Resident memory before anybody did anything, in MiB. */
const memoryBefore = among.memory()
after(() => among.site.close())

/** Connections that are never finished, from the beginning on. */
const halfOpen: RawClient[] = []

test('begins with those who do not come to an end', async () => {
  const hello = await clientHello()
  for (const said of [
    '',
    '\x16',
    '\x16\x03\x01',
    hello.subarray(0, 40),
    hello.subarray(0, -1),
    hello,
  ]) {
    for (let i = 0; i < 10; i++) {
      const client = await kms.plain()
      client.send(said)
      halfOpen.push(client)
    }
  }
})

describe('bytes that are no TLS, or not that of today', () => {
  test('are not answered in plain text', async () => {
    const hello = await clientHello()
    for (const said of [
      'GET /health HTTP/1.1\r\nHost: x\r\n\r\n',
      post('GetAppKey'),
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0',
      'SSH-2.0-OpenSSH_9.2\r\n',
      '\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10', // SSL 2
      '\x16\x03\x01\xff\xff', // a record longer than there are
      `\x16\x03\x01\0\0${'\x16\x03\x01\0\0'.repeat(1000)}`, // records of nothing
      `\x15\x03\x03\0\x02\x01\0${'\x15\x03\x03\0\x02\x01\0'.repeat(1000)}`, // alerts
      '\x18\x03\x02\0\x03\x01\x40\0', // a heartbeat
      Buffer.concat([hello, hello]),
      Buffer.concat([hello, Buffer.alloc(100_000, 0x17)]),
    ]) {
      const client = await kms.plain()
      client.send(said)
      client.halfClose()
      assert.ok(await client.closed(WAIT_MS), `${said.slice(0, 20)} is waited for`)
      assert.doesNotMatch(client.text, /HTTP/)
      client.destroy()
    }
  })

  test('and a greeting that was damaged', async () => {
    const hello = await clientHello()
    const at = fc.nat({ max: hello.length - 1 })
    await fc.assert(
      fc.asyncProperty(at, fc.integer({ min: 1, max: 255 }), fc.boolean(), async (n, mask, cut) => {
        const said = Buffer.from(hello)
        said[n] = (said[n] ?? 0) ^ mask
        const client = await kms.plain()
        client.send(cut ? said.subarray(0, n) : said)
        client.halfClose()
        assert.ok(await client.closed(WAIT_MS))
        assert.doesNotMatch(client.text, /HTTP/)
        client.destroy()
      }),
      { numRuns: 40 },
    )
  })

  test('and older versions, in which a connection could change its peer', async () => {
    for (const maxVersion of ['TLSv1', 'TLSv1.1', 'TLSv1.2'] as const) {
      const options = { minVersion: 'TLSv1', maxVersion, ciphers: 'ALL:@SECLEVEL=0' } as const
      await assert.rejects(kms.connect(clientOf(SHOP), options), maxVersion)
    }
    await assert.rejects(kms.connect(undefined, { ALPNProtocols: ['h2'] }).then(served))
  })
})

describe('HTTP', () => {
  const host = 'Host: kms.example\r\n'
  const get = (target: string, headers = '') => `GET ${target} HTTP/1.1\r\n${host}${headers}\r\n`
  const posted = (headers: string, body = '') =>
    `POST /prpc/GetMeta HTTP/1.1\r\n${host}${headers}\r\n\r\n${body}`

  test('that is none is refused, and nothing is expected behind it', async () => {
    for (const said of [
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
      '\0\x01\x02\x03\xff\xfe\r\n\r\n',
      `G@T /health HTTP/1.1\r\n${host}\r\n`,
      `GET /health HTTP/9.9\r\n${host}\r\n`,
      `CONNECT localhost:80 HTTP/1.1\r\n${host}\r\n`,
      get('/health', 'X : a\r\n'),
      get('/health', 'X: a\0b\r\n'),
      get('/health', `X: ${'a'.repeat(200_000)}\r\n`),
      get('/health', 'X: aaaaaaaaaaaaaaaa\r\n'.repeat(20_000)),
      get(`/${'a'.repeat(200_000)}`),
      posted('Content-Length: 3\r\nTransfer-Encoding: chunked', '0\r\n\r\n'),
      posted('Content-Length: 3\r\nContent-Length: 5', 'abcde'),
      posted('Content-Length: -1', 'abcde'),
      posted('Content-Length: 99999999999999999999999', 'abcde'),
      posted('Transfer-Encoding: xchunked', '0\r\n\r\n'),
      posted('Transfer-Encoding: chunked', 'zz\r\nabc\r\n0\r\n\r\n'),
      posted('Transfer-Encoding: chunked', '-1\r\nabc\r\n0\r\n\r\n'),
      posted('Transfer-Encoding: chunked', 'ffffffffffffffffff\r\nabc\r\n'),
    ]) {
      const name = said.slice(0, 80)
      const client = await kms.connect(clientOf(SHOP))
      client.send(said)
      // What it was refused with may be lost, as the rest is never read.
      const answer = await client.answer(WAIT_MS)
      assert.ok(answer === undefined || [400, 431, 505].includes(answer.status), name)
      assert.ok(await client.closed(WAIT_MS), name)
    }
  })

  test('without end is cut off at a size', async () => {
    const piece = `10000\r\n${'x'.repeat(0x10000)}\r\n`
    for (const method of ['GetKey', 'SignCert', 'Nothing']) {
      const client = await kms.connect()
      client.send(`POST /prpc/${method} HTTP/1.1\r\n${host}Transfer-Encoding: chunked\r\n\r\n`)
      let sent = 0
      while (sent < 50_000_000 && client.closedAt === undefined) {
        client.send(piece)
        sent += piece.length
        await client.drained(WAIT_MS)
      }
      assert.ok(sent < 50_000_000, method)
      const answer = await client.answer(WAIT_MS)
      assert.ok(answer === undefined || [404, 413].includes(answer.status), String(answer?.status))
      client.destroy()
    }
  })

  test('in one piece is answered in order', async () => {
    const client = await kms.connect(clientOf(SHOP))
    const asked = Array.from({ length: 12 }, (_, n) =>
      post(['GetMeta', 'GetKmsKey', 'Nothing'][n % 3] ?? ''),
    )
    for (let turn = 0; turn < 5; turn++) {
      client.send(Buffer.concat(asked))
      for (const [n] of asked.entries()) {
        assert.equal((await client.answer(WAIT_MS))?.status, [200, 403, 404][n % 3], `${n}`)
      }
    }
    client.destroy()
  })

  test('that asks on and on and fetches nothing is cut off', async () => {
    const before = memory()
    const counted = async () => (await kms.counts()).get('GetMeta answered') ?? 0
    const answered = await counted()
    for (let n = 0; n < 3; n++) {
      const socket = connectTls({ port: kms.port, host: '127.0.0.1', rejectUnauthorized: false })
      // Not by `once`, for which an error is none.
      const cut = new Promise<void>((resolve) => {
        socket.on('error', () => resolve()).on('close', () => resolve())
      })
      await once(socket, 'secureConnect')
      socket.pause()
      // 60 MB of answers.
      socket.write(Buffer.concat(Array.from({ length: 30_000 }, () => post('GetMeta'))))
      // Others are served meanwhile; then it looks what has become of it.
      for (let i = 0; i < 10; i++) await served(await kms.connect())
      socket.resume()
      await within(cut, 'it is still served')
    }
    const more = (await counted()) - answered
    assert.ok(more < 200, `${more} were answered`)
    const grown = memory() - before
    assert.ok(grown < 100, `${grown.toFixed(0)} MiB`)
  })
})

describe('many', () => {
  test('who say nothing, or a letter now and then, keep nobody else from being served', async () => {
    const slow = await Promise.all(
      Array.from({ length: 60 }, async (_, n) => {
        const client = await kms.connect()
        client.send(
          n % 2 === 0
            ? 'GET /health HTTP/1.1\r\nX: '
            : post('GetKey', 'x'.repeat(100)).subarray(0, -50),
        )
        return client
      }),
    )
    for (let n = 0; n < 5; n++) {
      for (const client of slow) client.send('x')
      await served(await kms.connect())
    }
    assert.ok(slow.every(({ text }) => text === ''))
    for (const client of slow) client.destroy()
  })

  test('connections of one address are cut from a number on', async () => {
    const from = '127.200.0.1'
    const opened = await inTurns(200, 50, () =>
      kms.connect(undefined, { from }).catch(() => undefined),
    )
    assert.equal(opened.filter((client) => client !== undefined).length, 128)
    await served(await kms.connect())
    for (const client of opened) client?.destroy()
  })

  test('connections of several are all served, and one more', async () => {
    const open = await inTurns(500, 50, (n) =>
      kms.connect(undefined, { from: `127.201.0.${1 + (n % 5)}` }),
    )
    await Promise.all(open.map(askMeta))
    await served(await kms.connect())
    for (const client of open) client.destroy()
  })

  test('requests that cost a verification are refused to who makes them, and to no other', async () => {
    const client = await kms.connect(undefined, { from: '127.202.0.1' })
    const asked = Array.from({ length: 10 }, () => post('SignCert', { api_version: 2, csr: '00' }))
    let last: RawAnswer | undefined
    // A hundred at once, and ten more each second.
    for (let n = 0; n < 1000 && last?.status !== 429; n++) {
      if (n % asked.length === 0) client.send(Buffer.concat(asked))
      last = await client.answer(WAIT_MS)
      assert.ok(last?.status === 400 || last?.status === 429, String(last?.status))
    }
    assert.equal(last?.status, 429)
    assert.equal(JSON.parse(last?.body ?? '{}').code, 'RATE_LIMITED')
    assert.match(last?.headers.get('retry-after') ?? '', /^[1-9]\d*$/)
    const { status } = await kms.ask(clientOf(OTHER), 'GetAppKey')
    assert.equal(status, 403, 'somebody else is looked at')
    client.destroy()
  })
})

describe('after all of it', () => {
  test('those who did not come to an end were cut', async () => {
    assert.equal(halfOpen.length, 60)
    for (const client of halfOpen) assert.ok(await client.closed(WAIT_MS))
  })

  test('no byte of a key has left', () => assertNothingLeft(among))

  test('the process is as it was', () => assertUnharmed(among, memoryBefore))

  test('an application gets its keys, and another KMS what it needs', () => assertGivesKeys(among))
})

/** The first bytes of a client that speaks TLS. */
function clientHello(): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => {
      socket.once('data', (data) => {
        resolve(data as Buffer)
        socket.destroy()
        server.close()
      })
      socket.on('error', reject)
    })
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false }).on(
        'error',
        () => undefined,
      )
    })
  })
}

/** Fails when it takes too long. */
async function within<T>(work: Promise<T>, otherwise: string): Promise<T> {
  const late = AbortSignal.timeout(WAIT_MS)
  const over = new Promise<never>((_, reject) => {
    late.addEventListener('abort', () => reject(new Error(otherwise)))
  })
  return Promise.race([work, over])
}

/** So many times the same, a few at a time. */
async function inTurns<T>(
  count: number,
  most: number,
  work: (n: number) => Promise<T>,
): Promise<T[]> {
  const done: T[] = []
  while (done.length < count) {
    const from = done.length
    const turn = Array.from({ length: Math.min(most, count - from) }, (_, n) => work(from + n))
    done.push(...(await Promise.all(turn)))
  }
  return done
}

/** Fails when it does not serve on this connection. */
async function askMeta(client: RawClient): Promise<void> {
  client.send(post('GetMeta'))
  assert.equal((await client.answer(WAIT_MS))?.status, 200)
}

/** The same, and closes it. */
async function served(client: RawClient): Promise<void> {
  await askMeta(client)
  client.destroy()
}
