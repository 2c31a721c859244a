import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { goEscapePath, requestPath } from '../src/http/path.ts'

/** The path of a URL as Deno shows it, without anything done to it. */
const asSent = (target: string) => requestPath({ url: `http://localhost${target}` } as Request)

/** The path of a URL as Node and Bun show it, after their URL parser. */
const asParsed = (target: string) => requestPath(new Request(`http://localhost${target}`))

/** Targets made of the pieces that matter. */
const target = fc
  .array(
    fc.constantFrom(
      '/',
      '/',
      '.',
      '..',
      '%2e',
      '%2E%2e',
      '%2f',
      '%5c',
      '%00',
      '%73',
      '%20',
      'a',
      'é',
    ),
    { maxLength: 12 },
  )
  .map((pieces) => `/${pieces.join('')}`)

test('a path is the same before and after a URL parser', () => {
  fc.assert(
    fc.property(target, (sent) => {
      const escaped = sent.replaceAll('é', '%C3%A9')
      assert.equal(asSent(escaped), asParsed(escaped))
    }),
  )
})

test('no dot segment is left, in whatever spelling', () => {
  fc.assert(
    fc.property(target, (sent) => {
      const segments = asSent(sent.replaceAll('é', '%C3%A9')).split('/')
      for (const segment of segments) assert.doesNotMatch(segment, /^(\.|%2e){1,2}$/i)
    }),
  )
})

test('an escape never becomes a slash', () => {
  fc.assert(
    fc.property(target, (sent) => {
      const slashes = (text: string) => text.split('/').length
      assert.ok(slashes(asSent(sent)) <= slashes(sent))
    }),
  )
})

test('only escapes that Go would write are decoded', () => {
  const cases = {
    '/': '/',
    '/a%20b': '/a b',
    '/%C3%A9': '/é',
    '/%c3%a9': '/%c3%a9',
    '/a%2Fb': '/a%2Fb',
    '/%6civez': '/%6civez',
    '/a%20%6c': '/a%20%6c',
    '/%zz': '/%zz',
    '/%ff': '/%ff',
    '/a?b=/../c': '/a',
    '/a#/../c': '/a',
  }
  for (const [sent, expected] of Object.entries(cases)) assert.equal(asSent(sent), expected)
})

test('a URL without a path has the root as its path', () => {
  assert.equal(requestPath({ url: 'http://localhost' } as Request), '/')
  assert.equal(requestPath({ url: 'http://localhost?a' } as Request), '/')
})

test('paths are escaped as net/url does', () => {
  assert.equal(
    goEscapePath("/a b!$&'()*+,;=:@[]?#é"),
    '/a%20b%21$&%27%28%29%2A+,;=:@%5B%5D%3F%23%C3%A9',
  )
})
