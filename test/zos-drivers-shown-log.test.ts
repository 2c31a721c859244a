import assert from 'node:assert/strict'
import { test } from 'node:test'
import { shownLog } from '../plugins/zos/drivers/shown-log.ts'

test('no line of a secret is shown, wherever the log was cut', () => {
  const key = '-----BEGIN KEY-----\nc2VjcmV0LW9uZQ==\r\nc2VjcmV0LXR3bw==\n-----END KEY-----\n'
  const log = ['key: -----BEGIN KEY-----', 'c2VjcmV0LW9uZQ==', 'c2VjcmV0LXR3bw==\r', 'done']
  assert.deepEqual(shownLog(log, [key]), ['key: [masked]', '[masked]', '[masked]', 'done'])
})

test('a secret within another one leaves nothing of the longer one', () => {
  assert.deepEqual(shownLog(['a password1234 b'], ['word', 'password1234']), ['a [masked] b'])
})

test('a long secret is found before its line is cut', () => {
  const secret = 's'.repeat(5000)
  assert.deepEqual(shownLog([`x ${secret}`], [secret]), ['x [masked]'])
  assert.equal(shownLog(['x'.repeat(5000)], []).join('').length, 4096)
})

test('what is too short is no secret, and too many hide everything', () => {
  assert.deepEqual(shownLog(['yes 1'], ['yes', '1', '']), ['yes 1'])
  const many = Array.from({ length: 3000 }, (_, index) => `value ${index}`)
  assert.deepEqual(shownLog(['a', 'b'], many), ['[masked]', '[masked]'])
})

test('nothing moves the cursor of a terminal', () => {
  assert.deepEqual(shownLog(['\u001b[31mred\u001b[0m\u0007\tand\r'], []), ['red\tand'])
})
