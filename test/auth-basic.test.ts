import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { MAX_AUTHORIZATION, parseBasic } from '../src/auth/basic.ts'
import { createToken, parseBearer, tokenId } from '../src/auth/key-token.ts'

const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64')

test('a Basic header gives user and password back, byte for byte', () => {
  const user = fc.uint8Array({ maxLength: 40 }).map((bytes) => bytes.filter((b) => b !== 0x3a))
  fc.assert(
    fc.property(user, fc.uint8Array({ maxLength: 300 }), (name, password) => {
      const credentials = Buffer.concat([name, Buffer.from(':'), password])
      const parsed = parseBasic(`Basic ${base64(credentials)}`)
      assert.equal(parsed?.user, Buffer.from(name).toString('latin1'))
      assert.deepEqual(Buffer.from(parsed?.password ?? []), Buffer.from(password))
    }),
  )
})

test('the scheme word is taken in any case', () => {
  for (const scheme of ['Basic', 'basic', 'BASIC', 'bAsIc']) {
    assert.equal(parseBasic(`${scheme} YWRtaW46cHc=`)?.user, 'admin')
  }
})

test('what system-api refuses is refused', () => {
  const refused = [
    '',
    'Basic',
    'Basic ',
    'Basic  YWRtaW46cHc=', // two spaces
    'Basic\tYWRtaW46cHc=',
    ' Basic YWRtaW46cHc=',
    'Basic YWRtaW46cHc', // no padding
    'Basic YWRtaW46cHc= ',
    'Basic YWRtaW46cHc=\n',
    'Basic YWRtaW46cHc==',
    'Basic =YWRtaW46cHc',
    'Basic YWRtaW46-_8=', // URL alphabet
    'Basic YWRtaW4=', // no colon
    'Basic YWRt aW46',
    'Basics YWRtaW46cHc=',
    'Bearer YWRtaW46cHc=',
    `Basic ${base64(Buffer.alloc(MAX_AUTHORIZATION, ':'))}`,
  ]
  for (const header of refused) assert.equal(parseBasic(header), undefined, JSON.stringify(header))
})

test('no header makes a parser throw or take long', () => {
  const nasty = fc.oneof(
    fc.string(),
    fc.string({ unit: 'binary' }),
    fc.string().map((text) => `Basic ${text}`),
    fc.base64String().map((text) => `basic ${text}`),
    fc.string().map((text) => `Bearer ${text}`),
  )
  fc.assert(
    fc.property(nasty, (header) => {
      const basic = parseBasic(header)
      assert.ok(basic === undefined || basic.password.byteLength <= header.length)
      const token = parseBearer(header)
      assert.ok(token === undefined || header.endsWith(token))
      tokenId(header)
    }),
  )
  const long = 'A'.repeat(1_000_000)
  const started = performance.now()
  for (const header of [`Basic ${long}=`, `Bearer ${long}!`, `cvmd_${long}`]) {
    parseBasic(header)
    parseBearer(header)
    tokenId(header)
  }
  assert.ok(performance.now() - started < 1000)
})

test('a token carries its id, and only its own shape does', () => {
  const { id, token } = createToken()
  assert.match(token, /^cvmd_[0-9a-f]{12}_[A-Za-z0-9_-]{43}$/)
  assert.equal(tokenId(token), id)
  assert.equal(parseBearer(`Bearer ${token}`), token)
  assert.equal(parseBearer(`bEARER ${token}`), token)
  for (const other of [`${token}x`, token.slice(1), `${token}\n`, token.toUpperCase()]) {
    assert.equal(tokenId(other), undefined)
  }
  for (const header of [`Bearer  ${token}`, `Bearer ${token} `, 'Bearer', 'Bearer a b']) {
    assert.equal(parseBearer(header), undefined)
  }
})
