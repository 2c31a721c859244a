/** Servers that give a client of a KMS no answer, or one that is none. */
import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { after, describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import { readAnswer } from '../../plugins/kms/client/answer.ts'
import { KmsError } from '../../plugins/kms/client/connection.ts'
import { endpointOf } from '../../plugins/kms/client/endpoint.ts'
import { openKmsConnection } from '../../plugins/kms/client/open-connection.ts'
import { runtime } from '../../src/runtime.ts'
import {
  closeAll,
  fakeKms,
  httpAnswer,
  options,
  plainServer,
  refused,
  rpc,
  temporary,
} from './kms-client-fixtures.ts'

after(closeAll)

const bytes = (text: string) => new Uint8Array(Buffer.from(text))
const TEMPORARY = httpAnswer(JSON.stringify(temporary()))

type Act = (socket: Socket) => void

/** What comes of a call that is answered so; and of GetTempCaCert. */
async function calling(act: Act, deadlineMs = 20_000) {
  const server = await fakeKms(rpc.pair, (path, socket) => {
    if (path.includes('GetTempCaCert')) socket.write(TEMPORARY)
    else act(socket)
  })
  const kms = await openKmsConnection(options(server, { deadlineMs }))
  try {
    return await kms.call('GetAppKey', {})
  } finally {
    kms.close()
  }
}

/** The code, which is the same when the answer to GetTempCaCert is this one. */
async function codeOf(act: Act, deadlineMs?: number): Promise<string> {
  const { code, message } = await refused(calling(act, deadlineMs))
  assert.match(message, /^[\x20-\x7e]{1,700}$/)
  const server = await fakeKms(rpc.pair, (_path, socket) => act(socket))
  const first = await refused(
    openKmsConnection(options(server, { ...(deadlineMs && { deadlineMs }) })),
  )
  assert.equal(first.code, code)
  assert.deepEqual(server.certificates, [])
  return code
}

const says =
  (text: string | Uint8Array, status?: string, head?: string): Act =>
  (socket) =>
    socket.write(httpAnswer(text, status, head))

describe('no answer comes from', () => {
  test('nobody', async () => {
    const port = await plainServer(() => undefined)
    await closeAll()
    assert.equal((await refused(openKmsConnection(options({ port })))).code, 'KMS_UNREACHABLE')
  })

  test('a server that closes the connection, or speaks no TLS, or only an older one', async () => {
    for (const act of [
      (socket: Socket) => socket.destroy(),
      (socket: Socket) => socket.end(),
      (socket: Socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'),
      (socket: Socket) => socket.once('data', () => socket.end()),
    ]) {
      const port = await plainServer(act)
      assert.equal((await refused(openKmsConnection(options({ port })))).code, 'KMS_UNREACHABLE')
    }
    const old = await fakeKms(rpc.pair, () => undefined, { maxVersion: 'TLSv1.2' })
    assert.equal((await refused(openKmsConnection(options(old)))).code, 'KMS_UNREACHABLE')
    assert.deepEqual(old.requests, [])
  })

  test('a server that closes it instead of answering, or in the middle', async () => {
    for (const act of [
      (socket: Socket) => socket.destroy(),
      (socket: Socket) => socket.end(),
      (socket: Socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Le'),
      (socket: Socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"a"'),
      (socket: Socket) =>
        socket.end('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}'),
    ]) {
      assert.equal(await codeOf(act), 'KMS_UNREACHABLE')
    }
  })

  test('a server that hangs, wherever it does', async () => {
    const port = await plainServer(() => undefined)
    const late = options({ port }, { deadlineMs: 300 })
    const { code, message } = await refused(openKmsConnection(late))
    assert.equal(code, 'KMS_TIMEOUT')
    assert.equal(message, `Cannot connect to KMS ${late.url}: not done in 300 ms`)
    for (const act of [
      () => undefined,
      (socket: Socket) => socket.write('HTTP/1.1 200 OK\r\nConte'),
      (socket: Socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{'),
    ]) {
      assert.equal(await codeOf(act, 600), 'KMS_TIMEOUT')
    }
  })

  test('anybody once it is not wanted', async () => {
    const wanted = new AbortController()
    wanted.abort()
    let reached = 0
    const port = await plainServer(() => {
      reached += 1
    })
    const early = options({ port }, { signal: wanted.signal })
    assert.equal((await refused(openKmsConnection(early))).code, 'KMS_ABORTED')
    assert.equal(reached, 0)
    for (const where of ['handshake', 'request'] as const) {
      const unwanted = new AbortController()
      const abort = () => unwanted.abort()
      const server =
        where === 'handshake' ? { port: await plainServer(abort) } : await fakeKms(rpc.pair, abort)
      const { signal } = unwanted
      assert.equal(
        (await refused(openKmsConnection(options(server, { signal })))).code,
        'KMS_ABORTED',
      )
    }
  })
})

describe('what is no answer is not taken for one:', () => {
  test('what is not HTTP, or not what was asked for', async () => {
    for (const act of [
      (socket: Socket) => socket.write('\x00\x01garbage\r\n\r\n'),
      (socket: Socket) => socket.write('SSH-2.0-OpenSSH_9.2\r\n'),
      (socket: Socket) => socket.write(`HTTP/1.1 200 OK\r\nX: ${'x'.repeat(100_000)}\r\n\r\n`),
      (socket: Socket) =>
        socket.write(
          'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n',
        ),
    ]) {
      const code = await codeOf(act)
      // Bun now and then says nothing of a head that it does not like, and the deadline ends it.
      if (runtime !== 'bun' || code !== 'KMS_TIMEOUT') assert.equal(code, 'KMS_MALFORMED')
    }
  })

  test('one that is too long', async () => {
    const much = ' '.repeat(2 * 1024 * 1024)
    assert.equal(await codeOf(says(`{}${much}`)), 'KMS_MALFORMED')
    const endless: Act = (socket) => {
      socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
      const more = () => {
        while (!socket.destroyed && socket.write(`10000\r\n${' '.repeat(0x10000)}\r\n`)) {}
      }
      socket.on('drain', more)
      more()
    }
    assert.equal(await codeOf(endless), 'KMS_MALFORMED')
  })

  test('one that is compressed, as nobody asked for that', async () => {
    const bomb = gzipSync(Buffer.alloc(50_000_000, ' '))
    assert.equal(await codeOf(says(bomb, '200 OK', 'Content-Encoding: gzip\r\n')), 'KMS_MALFORMED')
    const said = says('{"k256_key":"00"}', '200 OK', 'Content-Encoding: gzip\r\n')
    assert.equal(await codeOf(said), 'KMS_MALFORMED')
    const small = gzipSync('{"k256_key":"00"}')
    assert.equal(await codeOf(says(small, '200 OK', 'Content-Encoding: gzip\r\n')), 'KMS_MALFORMED')
  })

  test('one that is no JSON object, or has another status without an error', async () => {
    for (const act of [
      says('<html>'),
      says('{"a":'),
      says('[]'),
      says('"a"'),
      says('0'),
      says(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d)),
      says('['.repeat(500_000)),
      says('{}', '302 Found', 'Location: https://127.0.0.1:1/\r\n'),
      says('{"k256_key":"00"}', '500 Internal Server Error'),
      says('Not Found', '404 Not Found'),
      says('{}', '201 Created'),
    ]) {
      assert.equal(await codeOf(act), 'KMS_MALFORMED')
    }
  })

  test('what follows an answer, on the same connection', async () => {
    let asked = 0
    const server = await fakeKms(rpc.pair, (path, socket) => {
      if (path.includes('GetTempCaCert')) return socket.write(TEMPORARY)
      asked += 1
      return socket.write(
        Buffer.concat([httpAnswer(`{"n":${asked}}`), httpAnswer('{"n":"other"}')]),
      )
    })
    const kms = await openKmsConnection(options(server))
    for (const n of [1, 2, 3]) assert.deepEqual(await kms.call('GetMeta', {}), { n })
    kms.close()
  })
})

describe('an answer is taken', () => {
  test('in any form that HTTP has for it', async () => {
    for (const [act, expected] of [
      [says('{"a":1}'), { a: 1 }],
      [says('null'), {}],
      [says(''), {}],
      [says('{"a":1}', '200 OK', 'Content-Encoding: identity\r\n'), { a: 1 }],
      [says('{"a":1}', '200 OK', 'Connection: close\r\n'), { a: 1 }],
      [
        (socket: Socket) =>
          socket.write(
            'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{"a":1}\r\n0\r\n\r\n',
          ),
        { a: 1 },
      ],
      [(socket: Socket) => socket.end('HTTP/1.1 200 OK\r\n\r\n{"a":1}'), { a: 1 }],
      [
        (socket: Socket) =>
          socket.write(
            Buffer.concat([Buffer.from('HTTP/1.1 100 Continue\r\n\r\n'), httpAnswer('{}')]),
          ),
        {},
      ],
    ] as const) {
      assert.deepEqual(await calling(act), expected)
    }
  })

  test('from a server that closes the connection after each', async () => {
    for (const head of ['Connection: close\r\n', '']) {
      const server = await fakeKms(rpc.pair, (path, socket) => {
        const body = path.includes('GetTempCaCert') ? JSON.stringify(temporary()) : '{"a":1}'
        socket.end(httpAnswer(body, '200 OK', head))
      })
      const kms = await openKmsConnection(options(server))
      for (let i = 0; i < 5; i++) assert.deepEqual(await kms.call('GetMeta', {}), { a: 1 })
      assert.equal(server.connections, 6)
      kms.close()
    }
  })

  test('on another connection from a server that closes one instead of answering', async () => {
    let asked = 0
    const server = await fakeKms(rpc.pair, (path, socket) => {
      if (path.includes('GetTempCaCert')) return socket.write(TEMPORARY)
      asked += 1
      return asked === 2 ? socket.destroy() : socket.write(httpAnswer(`{"n":${asked}}`))
    })
    const kms = await openKmsConnection(options(server))
    assert.deepEqual(await kms.call('GetMeta', {}), { n: 1 })
    assert.deepEqual(await kms.call('GetMeta', {}), { n: 3 })
    kms.close()
  })
})

describe('the error of a KMS', () => {
  test('is given with its code, and its text on one line', async () => {
    const hostile = `no\r\n\u001b[31mway\u2028\u202e${'!'.repeat(2000)}`
    for (const [body, status, refusal, text] of [
      ['{"error":"no","code":"UNAUTHORIZED"}', '401 Unauthorized', 'UNAUTHORIZED', 'no'],
      ['{"error":"no"}', '400 Bad Request', undefined, 'no'],
      ['{"error":"no","code":"<b>"}', '400 Bad Request', undefined, 'no'],
      ['{"error":"no","code":7}', '200 OK', undefined, 'no'],
      [JSON.stringify({ error: hostile }), '500 Internal Server Error', undefined, undefined],
    ] as const) {
      const found = await refused(calling(says(body, status)))
      assert.deepEqual([found.code, found.refusal], ['KMS_REFUSED', refusal])
      assert.match(
        found.message,
        /^KMS https:\/\/127\.0\.0\.1:\d+ refuses GetAppKey: [\x20-\x7e]{2,512}$/,
      )
      if (text) assert.ok(found.message.endsWith(`: ${text}`))
      assert.equal(await codeOf(says(body, status)), 'KMS_REFUSED')
    }
  })
})

describe('the reader of answers', () => {
  const read = (body: Uint8Array, status = 200) =>
    readAnswer('https://kms', 'GetMeta', { status, encoding: undefined, bytes: body })

  test('gives the members of every object, and overwrites the bytes', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (members) => {
        fc.pre(!Object.hasOwn(members, 'error'))
        const text = JSON.stringify(members)
        const body = bytes(text)
        assert.deepEqual(read(body), JSON.parse(text))
        assert.ok(body.every((byte) => byte === 0))
      }),
    )
  })

  test('throws nothing but its own error, of bounded length, for any bytes and any status', () => {
    const anything = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc.json().map(bytes),
      fc
        .record({ error: fc.string({ maxLength: 700, unit: 'binary' }), code: fc.jsonValue() })
        .map((value) => bytes(JSON.stringify(value))),
    )
    fc.assert(
      fc.property(anything, fc.integer({ min: 100, max: 599 }), (body, status) => {
        try {
          const members = read(body, status)
          assert.equal(status, 200)
          assert.equal(typeof members, 'object')
        } catch (error) {
          assert.ok(error instanceof KmsError, String(error))
          assert.ok(error.message.length < 700)
          assert.ok(!/[\p{Cc}\p{Cs}]/u.test(error.message))
          if (error.refusal !== undefined) assert.match(error.refusal, /^[A-Z][A-Z0-9_]*$/)
        }
      }),
    )
  })
})

describe('the reader of URLs', () => {
  test('takes hosts of any kind', () => {
    for (const [url, host, port, path] of [
      ['https://kms.example', 'kms.example', 443, '/prpc'],
      ['https://kms.example:12001/prpc', 'kms.example', 12001, '/prpc'],
      ['https://[2001:db8::1]:12001', '2001:db8::1', 12001, '/prpc'],
      ['https://10.0.0.1/one/two/', '10.0.0.1', 443, '/one/two/prpc'],
    ] as const) {
      const found = endpointOf(url)
      assert.deepEqual([found.host, found.port, found.path], [host, port, path])
    }
  })

  test('gives a place to ask, or its own error, for any text, and repeats no password', () => {
    const urls = fc.tuple(
      fc.constantFrom('https://', 'https://u:p@ssw0rd@', 'http://', ''),
      fc.string(),
    )
    fc.assert(
      fc.property(urls, ([scheme, rest]) => {
        try {
          const { host, port, path, url } = endpointOf(scheme + rest)
          assert.ok(host !== '' && port >= 0 && port < 65536)
          assert.match(path, /^\/(?:.*\/)?prpc$/)
          assert.ok(!url.includes('@'))
        } catch (error) {
          assert.ok(error instanceof KmsError, String(error))
          assert.ok(!error.message.includes('ssw0rd'))
        }
      }),
      { numRuns: 500 },
    )
  })
})
