import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { engineWords, errorOfStatus, isEngineError } from '../src/engine/error.ts'
import { createLineSplitter } from '../src/engine/lines.ts'
import {
  createFrameDecoder,
  createRawDecoder,
  type LogDecoder,
  type LogLine,
} from '../src/engine/log-lines.ts'
import { parseImageReference } from '../src/engine/reference.ts'

const form = { action: 'read logs', maxLineBytes: 64, timestamps: true }
const TIME = '2026-11-21T14:55:28.996043170Z'

/** The same bytes in pieces that end anywhere. */
function pieces(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b)
  return [0, ...places].map((from, index) => bytes.subarray(from, places[index] ?? bytes.length))
}

function frame(kind: number, text: string | Buffer): Buffer {
  const data = Buffer.from(text)
  const header = Buffer.from([kind, 0, 0, 0, 0, 0, 0, 0])
  header.writeUInt32BE(data.length, 4)
  return Buffer.concat([header, data])
}

function decode(decoder: LogDecoder, chunks: readonly Buffer[]): LogLine[] {
  const lines = chunks.flatMap((chunk) => decoder.push(chunk))
  return [...lines, ...decoder.end()]
}

const cuts = fc.array(fc.nat(), { maxLength: 20 })

test('lines come whole however the bytes are cut, and long ones are cut at the limit', () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom('a', 'é', '\n', '\r') }), cuts, (text, at) => {
      const splitter = createLineSplitter(8)
      const found = pieces(Buffer.from(text), at).flatMap((chunk) => splitter.push(chunk))
      found.push(...splitter.end())
      const wanted = text.split('\n')
      if (wanted.at(-1) === '') wanted.pop()
      assert.deepEqual(
        found.map(({ bytes, cut }) => [bytes.toString('hex'), cut]),
        wanted.map((line) => {
          const bytes = Buffer.from(line)
          return [bytes.subarray(0, 8).toString('hex'), bytes.length > 8]
        }),
      )
      assert.equal(splitter.pending, 0)
    }),
  )
})

test('what is pending is counted, though it is not kept', () => {
  const splitter = createLineSplitter(4)
  for (let count = 1; count <= 100; count++) {
    splitter.push(Buffer.from('xyz'))
    assert.equal(splitter.pending, count * 3)
  }
  assert.deepEqual(splitter.push(Buffer.from('\n')), [{ bytes: Buffer.from('xyzx'), cut: true }])
})

const word = fc.string({ unit: fc.constantFrom('a', 'b', ' ', '0'), maxLength: 20 })
const message = fc.record({
  stream: fc.constantFrom('stdout' as const, 'stderr' as const),
  parts: fc.array(word, { minLength: 1, maxLength: 3 }),
})

test('frames of both streams give their lines, long lines from several frames', () => {
  fc.assert(
    fc.property(fc.array(message, { maxLength: 10 }), cuts, (messages, at) => {
      const bytes = Buffer.concat(
        messages.flatMap(({ stream, parts }) =>
          parts.map((part, index) => {
            const end = index === parts.length - 1 ? '\n' : ''
            return frame(stream === 'stdout' ? 1 : 2, `${TIME} ${part}${end}`)
          }),
        ),
      )
      const lines = decode(createFrameDecoder(form), pieces(bytes, at))
      assert.deepEqual(
        lines,
        messages.map(({ stream, parts }) => ({
          stream,
          time: TIME,
          text: parts.join(''),
          cut: false,
        })),
      )
    }),
  )
})

test('a frame may hold several lines, and a line may lack its end or its time', () => {
  const bytes = Buffer.concat([
    frame(1, `${TIME} one\r\n${TIME} two\nthree\n`),
    frame(2, ''),
    frame(2, `${TIME} open`),
    frame(1, `${TIME} \n`),
  ])
  assert.deepEqual(decode(createFrameDecoder(form), [bytes]), [
    { stream: 'stdout', time: TIME, text: 'one', cut: false },
    { stream: 'stdout', time: TIME, text: 'two', cut: false },
    { stream: 'stdout', text: 'three', cut: false },
    { stream: 'stdout', time: TIME, text: '', cut: false },
    { stream: 'stderr', time: TIME, text: 'open', cut: false },
  ])
})

test('a line over the limit is cut, in one frame and in several', () => {
  const long = 'x'.repeat(200)
  const one = decode(createFrameDecoder(form), [
    frame(1, `${TIME} ${long}\n`),
    frame(1, `${TIME} next\n`),
  ])
  assert.deepEqual(
    one.map(({ text, cut }) => [text.length, cut]),
    [
      [64, true],
      [4, false],
    ],
  )
  const many = decode(createFrameDecoder(form), [
    ...Array.from({ length: 10 }, () => frame(1, `${TIME} ${'x'.repeat(30)}`)),
    frame(1, `${TIME} \n`),
  ])
  assert.deepEqual(
    many.map(({ text, cut }) => [text.length, cut]),
    [[64, true]],
  )
})

test('a frame that claims gigabytes takes no memory', () => {
  const decoder = createFrameDecoder(form)
  const header = Buffer.from([1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])
  const part = Buffer.alloc(100_000, 120)
  const before = process.memoryUsage().arrayBuffers
  assert.deepEqual(decoder.push(header), [])
  // Ten times as much as may be in use, so that what is not collected yet does not count.
  for (let count = 0; count < 10_000; count++) decoder.push(part)
  assert.ok(process.memoryUsage().arrayBuffers - before < 100 * 1024 * 1024)
})

test('what is no frame is an error, and so is what the engine says in one', () => {
  assert.throws(
    () => createFrameDecoder(form).push(Buffer.from('plain text\n')),
    (error) => isEngineError(error, 'ENGINE_MALFORMED'),
  )
  assert.throws(
    () => createFrameDecoder(form).push(frame(3, 'the log is gone\n')),
    /^EngineError: Cannot read logs: the engine says: the log is gone$/,
  )
})

test('raw logs of a terminal give their lines without CR', () => {
  fc.assert(
    fc.property(fc.array(word, { maxLength: 10 }), cuts, (texts, at) => {
      const bytes = Buffer.from(texts.map((text) => `${TIME} ${text}\r\n`).join(''))
      assert.deepEqual(
        decode(createRawDecoder(form), pieces(bytes, at)),
        texts.map((text) => ({ stream: 'stdout', time: TIME, text, cut: false })),
      )
    }),
  )
})

test('no bytes make a log reader fail in another way, or keep more than it may', () => {
  const bytes = fc.uint8Array({ maxLength: 500 })
  fc.assert(
    fc.property(bytes, cuts, fc.boolean(), (given, at, framed) => {
      const chunks = pieces(Buffer.from(given), at)
      try {
        const decoder = framed ? createFrameDecoder(form) : createRawDecoder(form)
        for (const { text } of decode(decoder, chunks)) assert.ok(Buffer.from(text).length <= 192)
      } catch (error) {
        assert.ok(isEngineError(error))
      }
    }),
  )
})

test('names of images have their parts', () => {
  const digest = `sha256:${'a'.repeat(64)}`
  for (const [text, registry, repository, tag, found, name] of [
    ['alpine', 'docker.io', 'library/alpine', 'latest', undefined, 'alpine'],
    ['alpine:3.20', 'docker.io', 'library/alpine', '3.20', undefined, 'alpine'],
    ['team/app', 'docker.io', 'team/app', 'latest', undefined, 'team/app'],
    ['docker.io/alpine', 'docker.io', 'library/alpine', 'latest', undefined, 'docker.io/alpine'],
    ['localhost/app', 'localhost', 'app', 'latest', undefined, 'localhost/app'],
    ['a.b/c/d:e', 'a.b', 'c/d', 'e', undefined, 'a.b/c/d'],
    ['a:5000/c', 'a:5000', 'c', 'latest', undefined, 'a:5000/c'],
    ['[::1]:5000/c:1', '[::1]:5000', 'c', '1', undefined, '[::1]:5000/c'],
    [`app@${digest}`, 'docker.io', 'library/app', undefined, digest, 'app'],
    [`r.io/app:1@${digest}`, 'r.io', 'app', '1', digest, 'r.io/app'],
    ['a__b/c-d/e.f', 'docker.io', 'a__b/c-d/e.f', 'latest', undefined, 'a__b/c-d/e.f'],
  ] as const) {
    const {
      tag: ownTag,
      digest: ownDigest,
      ...rest
    } = parseImageReference(text) ?? assert.fail(text)
    assert.deepEqual(rest, { registry, repository, name })
    assert.deepEqual([ownTag, ownDigest], [tag, found])
  }
  for (const text of [
    '',
    ' ',
    ':',
    '@',
    '/',
    'a/',
    '/a',
    'a//b',
    '../a',
    'a/../b',
    'a/./b',
    'A',
    'Team/app/x y',
    'a:',
    'a@',
    'a@sha256:1',
    `a@sha512:${'a'.repeat(64)}`,
    'a:b:c',
    'a?b',
    'a#b',
    'a%2fb',
    'a\nb',
    '-a',
    'a_',
    'a..b',
    'http://a/b',
    'a:5000:1/b',
    'x'.repeat(256),
  ]) {
    assert.equal(parseImageReference(text), undefined, text)
  }
})

test('whatever is taken as an image’s name can stand in a path, and is put together again', () => {
  const characters = fc.constantFrom(
    'a',
    'b',
    '0',
    '.',
    '-',
    '_',
    '/',
    ':',
    '@',
    'A',
    '%',
    '?',
    '#',
    ' ',
  )
  fc.assert(
    fc.property(fc.string({ unit: characters, maxLength: 30 }), (text) => {
      const found = parseImageReference(text)
      if (!found) return
      assert.match(text, /^[\w.:@/[\]-]+$/)
      assert.ok(!text.split('/').some((part) => part === '.' || part === '..' || part === ''))
      const tag = found.tag !== undefined && text.endsWith(`:${found.tag}`) ? `:${found.tag}` : ''
      assert.equal(`${found.name}${tag}`, text)
    }),
    { numRuns: 2000 },
  )
})

test('words of an engine are one short line without secrets', () => {
  const secret = fc.string({
    unit: fc.constantFrom('p', 'q', '$', '\\', '\n'),
    minLength: 4,
    maxLength: 8,
  })
  fc.assert(
    fc.property(fc.array(secret, { maxLength: 4 }), fc.string(), (secrets, other) => {
      const words = engineWords(`x ${secrets.join(`${other} `)} y`, secrets)
      assert.ok(words.length <= 500)
      for (const value of secrets) assert.ok(!words.includes(value) || other.includes(value))
    }),
  )
  assert.equal(engineWords('bad line: second', ['first\nsecond']), 'bad line: [masked]')
  const { message } = errorOfStatus('start "a"', 500, 'x'.repeat(10_000), [])
  assert.equal(message.length, 'Cannot start "a": the engine answered 500: '.length + 500)
})

test('a long line of a terminal loses the times that Docker puts between its parts', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 60_000 }), cuts, (length, at) => {
      const text = 'x'.repeat(length)
      const parts = text.match(/x{1,16384}/g) ?? []
      const bytes = Buffer.from(`${parts.map((part) => `${TIME} ${part}`).join('')}\r\n`)
      const decoder = createRawDecoder({ ...form, maxLineBytes: 65_536 })
      const lines = decode(decoder, pieces(bytes, at))
      assert.deepEqual(lines, [{ stream: 'stdout', time: TIME, text, cut: false }])
    }),
    { numRuns: 20 },
  )
})
