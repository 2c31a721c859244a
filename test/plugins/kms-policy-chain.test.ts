import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { inspect } from 'node:util'
import fc from 'fast-check'
import {
  AbiReader,
  abiArray,
  abiSelector,
  abiString,
  abiTuple,
  abiWord,
} from '../../plugins/kms/policy/abi.ts'
import type { BootInfo } from '../../plugins/kms/policy/boot-info.ts'
import { chainPolicy } from '../../plugins/kms/policy/chain.ts'
import { encodeQuestion, revertReason } from '../../plugins/kms/policy/kms-contract.ts'
import type { PolicyError } from '../../plugins/kms/policy/policy.ts'
import type { Service } from '../../plugins/kms/policy/service.ts'
import { Secret } from '../../src/config/secret.ts'
import { BOOT_INFO, type Handler, json, standIn, temporaryFile } from './kms-policy-fixtures.ts'

const CONTRACT = `0x${'c0'.repeat(20)}`
const IMPLEMENTATION = `0x${'1e'.repeat(20)}`
const CHAIN_ID = 8453

/*
 * The other side of the codec, written by itself: call data is taken apart as text of hex digits,
 * answers are put together from text.
 */

const SELECTORS: Record<string, string> = {
  '1e079198': 'isAppAllowed',
  e067ec9d: 'isKmsAllowed',
  '95f51931': 'gatewayAppId',
  '25a992da': 'appImplementation',
}

/** The question as a contract would see it. */
interface Question {
  readonly name: string
  readonly info?: Omit<BootInfo, 'teeVariant' | 'keyProviderInfo'>
}

function decodeCall(data: string): Question {
  assert.match(data, /^0x(?:[0-9a-f]{2})+$/)
  const name = SELECTORS[data.slice(2, 10)]
  assert.ok(name, `no function ${data.slice(0, 10)}`)
  const args = data.slice(10)
  if (args === '') return { name }
  assert.equal(args.length % 64, 0, 'arguments are whole words')
  const number = (hex: string) => Number(BigInt(`0x${hex}`))
  const wordAt = (digits: string, index: number) => digits.slice(64 * index, 64 * (index + 1))
  const from = (digits: string, offset: string) => digits.slice(2 * number(offset))
  const textAt = (digits: string) => {
    const length = number(wordAt(digits, 0))
    const content = digits.slice(64, 64 + 2 * length)
    assert.equal(content.length, 2 * length)
    const padding = digits.slice(64 + 2 * length, 64 * (1 + Math.ceil(length / 32)))
    assert.match(padding, /^0*$/)
    return Buffer.from(content, 'hex').toString('utf8')
  }
  const struct = from(args, wordAt(args, 0))
  const address = (index: number) => {
    assert.match(wordAt(struct, index), /^0{24}/)
    return wordAt(struct, index).slice(24)
  }
  const list = from(struct, wordAt(struct, 8))
  const items = list.slice(64)
  const advisoryIds = Array.from({ length: number(wordAt(list, 0)) }, (_, i) =>
    textAt(from(items, wordAt(items, i))),
  )
  const info = {
    appId: address(0),
    composeHash: wordAt(struct, 1),
    instanceId: address(2),
    deviceId: wordAt(struct, 3),
    mrAggregated: wordAt(struct, 4),
    mrSystem: wordAt(struct, 5),
    osImageHash: wordAt(struct, 6),
    tcbStatus: textAt(from(struct, wordAt(struct, 7))),
    advisoryIds,
  }
  return { name, info }
}

const wordOf = (value: number) => value.toString(16).padStart(64, '0')
const textOf = (text: string) => {
  const hex = Buffer.from(text).toString('hex')
  return wordOf(hex.length / 2) + hex.padEnd(64 * Math.ceil(hex.length / 64), '0')
}
const answerOf = (allowed: boolean, reason: string) =>
  `0x${wordOf(allowed ? 1 : 0)}${wordOf(64)}${textOf(reason)}`
const stringOf = (text: string) => `0x${wordOf(32)}${textOf(text)}`

interface Contract {
  readonly chainId?: unknown
  readonly blockNumber?: unknown
  /** What a call returns; a thrown value becomes the error of JSON-RPC. */
  readonly decide?: (question: Question, block: string) => unknown
  readonly gatewayAppId?: unknown
  readonly appImplementation?: unknown
}

/** A node with one contract; what it was asked stands in `questions`. */
async function node(t: TestContext, contract: Contract = {}, more: Partial<Service> = {}) {
  const questions: { question: Question; block: string }[] = []
  const behind: { now: Contract } = { now: contract }
  const call = (to: string, data: string, block: string): unknown => {
    const { now } = behind
    if (to !== CONTRACT) return '0x'
    const question = decodeCall(data)
    questions.push({ question, block })
    if (question.name === 'gatewayAppId') return now.gatewayAppId ?? stringOf('0xgateway')
    if (question.name === 'appImplementation') {
      return now.appImplementation ?? `0x${'0'.repeat(24)}${IMPLEMENTATION.slice(2)}`
    }
    return now.decide ? now.decide(question, block) : answerOf(true, '')
  }
  const answer: Handler = ({ body }, response) => {
    const { id, method, params, jsonrpc } = JSON.parse(body)
    assert.equal(jsonrpc, '2.0')
    const { chainId = `0x${CHAIN_ID.toString(16)}`, blockNumber = '0x64' } = behind.now
    const results: Record<string, () => unknown> = {
      eth_chainId: () => chainId,
      eth_blockNumber: () => blockNumber,
      eth_call: () => call(params[0].to, params[0].data, params[1]),
    }
    try {
      const result = results[method]?.()
      response.end(JSON.stringify({ jsonrpc, id, result }))
    } catch (error) {
      response.end(JSON.stringify({ jsonrpc, id, error }))
    }
  }
  const server = await standIn(t, answer)
  const service: Service = { kind: 'chain node', url: server.url, deadlineMs: 20_000, ...more }
  const options = { service, contract: CONTRACT, chainId: CHAIN_ID, confirmations: 0 }
  return { server, questions, behind, service, options, policy: chainPolicy(options) }
}

const { teeVariant, keyProviderInfo, ...ASKED } = BOOT_INFO

test('the selectors are those of the published contracts', () => {
  const hex = (signature: string) => Buffer.from(abiSelector(signature)).toString('hex')
  const info = '(address,bytes32,address,bytes32,bytes32,bytes32,bytes32,string,string[])'
  assert.equal(SELECTORS[hex(`isAppAllowed(${info})`)], 'isAppAllowed')
  assert.equal(SELECTORS[hex(`isKmsAllowed(${info})`)], 'isKmsAllowed')
  assert.equal(SELECTORS[hex('gatewayAppId()')], 'gatewayAppId')
  assert.equal(SELECTORS[hex('appImplementation()')], 'appImplementation')
})

test('call data, by the words of the specification', () => {
  // The string[] of the specification's example g(uint256[][],string[]).
  const list = abiTuple([abiArray(['one', 'two', 'three'].map(abiString))]).bytes
  const words = Buffer.from(list).toString('hex').match(/.{64}/g) ?? []
  const numbers = [0x20, 3, 0x60, 0xa0, 0xe0, 3, 3, 5]
  const places = [0, 1, 2, 3, 4, 5, 7, 9]
  assert.deepEqual(
    places.map((place) => words[place]),
    numbers.map(wordOf),
  )
  assert.equal(words[10], Buffer.from('three').toString('hex').padEnd(64, '0'))
  assert.equal(words.length, 11)
})

test('both questions reach the contract with every field', async (t) => {
  const { policy, questions } = await node(t)
  const info = { ...BOOT_INFO, tcbStatus: 'OutOfDate', advisoryIds: ['INTEL-SA-00837', '', 'x'] }
  const approval = { allowed: true, gatewayAppId: '0xgateway' }
  assert.deepEqual(await policy.app(info), approval)
  assert.deepEqual(await policy.kms(info), approval)
  const asked = { ...ASKED, tcbStatus: 'OutOfDate', advisoryIds: info.advisoryIds }
  assert.deepEqual(
    questions.map(({ question }) => question),
    [
      { name: 'isAppAllowed', info: asked },
      { name: 'gatewayAppId' },
      { name: 'isKmsAllowed', info: asked },
      { name: 'gatewayAppId' },
    ],
  )
})

const hexOf = (bytes: number) =>
  fc
    .uint8Array({ minLength: bytes, maxLength: bytes })
    .map((value) => Buffer.from(value).toString('hex'))

test('any boot info survives the way to the contract', () => {
  const text = fc.string({ unit: 'grapheme', maxLength: 100 })
  const infos = fc.record({
    appId: hexOf(20),
    composeHash: hexOf(32),
    instanceId: hexOf(20),
    deviceId: hexOf(32),
    mrAggregated: hexOf(32),
    mrSystem: hexOf(32),
    osImageHash: hexOf(32),
    tcbStatus: text,
    advisoryIds: fc.array(text, { maxLength: 20 }),
  })
  fc.assert(
    fc.property(infos, fc.constantFrom('app', 'kms'), (info, role) => {
      const asked = { ...info, teeVariant, keyProviderInfo }
      const data = encodeQuestion(role as 'app' | 'kms', asked)
      const name = role === 'app' ? 'isAppAllowed' : 'isKmsAllowed'
      const hex = `0x${Buffer.from(data).toString('hex')}`
      assert.deepEqual(decodeCall(hex), { name, info: { ...info } })
    }),
  )
})

test('what was not measured is zero, and a value of a wrong length is never sent', () => {
  const data = encodeQuestion('kms', { ...BOOT_INFO, instanceId: '', composeHash: '' })
  const { info } = decodeCall(`0x${Buffer.from(data).toString('hex')}`)
  assert.equal(info?.instanceId, '0'.repeat(40))
  assert.equal(info?.composeHash, '0'.repeat(64))
  for (const wrong of [{ appId: 'ab' }, { deviceId: 'ab'.repeat(33) }, { mrSystem: 'ab' }]) {
    assert.throws(() => encodeQuestion('app', { ...BOOT_INFO, ...wrong }), RangeError)
  }
  assert.throws(() => abiWord(new Uint8Array(33)), RangeError)
})

test('answers come back as the other side wrote them', () => {
  fc.assert(
    fc.property(fc.boolean(), fc.string({ unit: 'grapheme' }), (allowed, text) => {
      const reader = new AbiReader(Buffer.from(answerOf(allowed, text).slice(2), 'hex'))
      assert.equal(reader.bool(0), allowed)
      assert.equal(reader.string(1), text.replace(/^\ufeff/, ''))
    }),
  )
})

test('arbitrary answers are read or refused, never in an untyped way', () => {
  const words = fc.array(fc.oneof(fc.nat(200), fc.nat()).map(wordOf), { maxLength: 12 })
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    words.map((list) => new Uint8Array(Buffer.from(list.join(''), 'hex'))),
    fc.uint8Array({ minLength: 32, maxLength: 32 }).map((word) => Buffer.concat([word, word])),
  )
  fc.assert(
    fc.property(bytes, fc.nat(5), (data, place) => {
      const reader = new AbiReader(data)
      const reads = [
        () => reader.bool(place),
        () => reader.word(place),
        () => reader.address(place),
        () => reader.string(place),
      ]
      for (const read of reads) {
        try {
          read()
        } catch (error) {
          assert.equal((error as PolicyError).code, 'POLICY_MALFORMED')
        }
      }
      revertReason(data)
    }),
    { numRuns: 500 },
  )
})

const REASONS = {
  'OS image is not allowed': 'MEASUREMENT_NOT_FOUND',
  'Aggregated MR not allowed': 'MEASUREMENT_NOT_FOUND',
  'App not registered': 'MEASUREMENT_NOT_FOUND',
  'App not deployed or invalid address': 'MEASUREMENT_NOT_FOUND',
  'Compose hash not allowed': 'MEASUREMENT_NOT_FOUND',
  'TCB status is not up to date': 'UNAUTHORIZED',
  'KMS is not allowed to boot on this device': 'UNAUTHORIZED',
  'Device not allowed': 'UNAUTHORIZED',
}

for (const [reason, code] of Object.entries(REASONS)) {
  test(`the contract denies: ${reason}`, async (t) => {
    const { policy } = await node(t, { decide: () => answerOf(false, reason) })
    assert.deepEqual(await policy.app(BOOT_INFO), { allowed: false, reason, code })
    assert.deepEqual(await policy.kms(BOOT_INFO), { allowed: false, reason, code })
  })
}

test('a contract that decides by what it reads', async (t) => {
  const { policy } = await node(t, {
    decide: ({ info }) =>
      answerOf(info?.composeHash === BOOT_INFO.composeHash, 'Compose hash not allowed'),
  })
  assert.equal((await policy.app(BOOT_INFO)).allowed, true)
  const other = { ...BOOT_INFO, composeHash: '00'.repeat(32) }
  assert.equal((await policy.app(other)).allowed, false)
})

test('who measured no image is denied without asking', async (t) => {
  const { policy, server } = await node(t)
  for (const info of [
    { ...BOOT_INFO, osImageHash: '' },
    { ...BOOT_INFO, composeHash: '' },
  ]) {
    const decision = await policy.app(info)
    assert.deepEqual('code' in decision && decision.code, 'MEASUREMENT_NOT_FOUND')
  }
  assert.equal(server.seen.length, 0)
})

test('a decision is about one block, as far back as configured', async (t) => {
  const { options, questions } = await node(t)
  await chainPolicy({ ...options, confirmations: 12 }).app(BOOT_INFO)
  assert.deepEqual(
    questions.map(({ block }) => block),
    ['0x58', '0x58'],
  )
  await chainPolicy({ ...options, confirmations: 100 }).app(BOOT_INFO)
  assert.equal(questions.at(-1)?.block, '0x0')
  const tooFew = chainPolicy({ ...options, confirmations: 101 })
  await assert.rejects(tooFew.app(BOOT_INFO), { name: 'PolicyError', code: 'POLICY_CHAIN' })
})

const revert = (code: number, message: string, data?: unknown) => () => {
  throw { code, message, ...(data !== undefined && { data }) }
}

const FAILURES: Record<string, [contract: Contract, code: string, message: RegExp]> = {
  'another chain': [{ chainId: '0x1' }, 'POLICY_CHAIN', /chain is 1, expected 8453$/],
  'a chain id that is no number': [{ chainId: 'mainnet' }, 'POLICY_MALFORMED', /eth_chainId/],
  'a chain id beyond all': [{ chainId: `0x${'f'.repeat(14)}` }, 'POLICY_MALFORMED', /eth_chainId/],
  'a block number that is none': [{ blockNumber: null }, 'POLICY_MALFORMED', /eth_blockNumber/],
  'no contract there': [{ decide: () => '0x' }, 'POLICY_CHAIN', /there is none$/],
  'a result that is no hex': [{ decide: () => '0xzz' }, 'POLICY_MALFORMED', /not hex$/],
  'a result of half a byte': [{ decide: () => '0x123' }, 'POLICY_MALFORMED', /not hex$/],
  'a result that is no text': [{ decide: () => true }, 'POLICY_MALFORMED', /not hex$/],
  'no result': [{ decide: () => undefined }, 'POLICY_MALFORMED', /not hex$/],
  'true alone': [{ decide: () => `0x${wordOf(1)}` }, 'POLICY_MALFORMED', /contract's answer/],
  'two for true': [
    { decide: () => answerOf(true, '').replace(wordOf(1), wordOf(2)) },
    'POLICY_MALFORMED',
    /truth value/,
  ],
  'a reason beyond the end': [
    { decide: () => `0x${wordOf(1)}${wordOf(64)}${wordOf(1000)}` },
    'POLICY_MALFORMED',
    /1000 bytes at 96 of 96$/,
  ],
  'a reason of 2^255 bytes': [
    { decide: () => `0x${wordOf(1)}${wordOf(64)}80${'0'.repeat(62)}` },
    'POLICY_MALFORMED',
    /too big$/,
  ],
  'a gateway that is no text': [
    { gatewayAppId: `0x${wordOf(7)}` },
    'POLICY_MALFORMED',
    /contract's answer/,
  ],
  'reverted with a reason': [
    { decide: revert(3, 'execution reverted', `0x08c379a0${stringOf('paused').slice(2)}`) },
    'POLICY_REVERTED',
    /it reverted: paused$/,
  ],
  'reverted in a panic': [
    { decide: revert(3, 'execution reverted', `0x4e487b71${wordOf(0x11)}`) },
    'POLICY_REVERTED',
    /it reverted: panic 0x11$/,
  ],
  'reverted with an error of its own': [
    { decide: revert(3, 'execution reverted', '0x12345678') },
    'POLICY_REVERTED',
    /it reverted: execution reverted$/,
  ],
  'reverted with data cut short': [
    { decide: revert(-32000, 'execution reverted: paused', '0x08c379a0ff') },
    'POLICY_REVERTED',
    /it reverted: execution reverted: paused$/,
  ],
  'a gateway that reverts': [
    {
      get gatewayAppId(): unknown {
        throw { code: 3, message: 'execution reverted' }
      },
    },
    'POLICY_REVERTED',
    /it reverted/,
  ],
  'a node that refuses': [
    { decide: revert(-32005, 'limit exceeded') },
    'POLICY_REFUSED',
    /eth_call failed: -32005: limit exceeded$/,
  ],
  'a node without the block': [
    { decide: revert(-32000, 'header not found') },
    'POLICY_REFUSED',
    /header not found$/,
  ],
}

for (const [name, [contract, code, message]] of Object.entries(FAILURES)) {
  test(`no decision: ${name}`, async (t) => {
    const { policy } = await node(t, contract)
    for (const ask of [() => policy.app(BOOT_INFO), () => policy.kms(BOOT_INFO)]) {
      await assert.rejects(ask, (error: PolicyError) => {
        assert.deepEqual([error.name, error.code], ['PolicyError', code])
        assert.match(error.message, message)
        return true
      })
    }
  })
}

const SPOILED: Record<string, unknown> = {
  'not JSON-RPC': { ok: true },
  'another version': { jsonrpc: '1.0', id: 1, result: '0x2105' },
  'an answer to something else': { jsonrpc: '2.0', id: 77, result: '0x2105' },
  'an answer to nothing': { jsonrpc: '2.0', id: null, result: '0x2105' },
  'a list': [{ jsonrpc: '2.0', id: 1, result: '0x2105' }],
  'an error without text': { jsonrpc: '2.0', id: 1, error: { code: 1 } },
}

for (const [name, value] of Object.entries(SPOILED)) {
  test(`no decision: ${name}`, async (t) => {
    const { policy, server } = await node(t)
    server.answer = json(value)
    await assert.rejects(policy.app(BOOT_INFO), { name: 'PolicyError', code: 'POLICY_MALFORMED' })
  })
}

test('the deadline is for the whole decision', async (t) => {
  const { server, options, service } = await node(t)
  const usual = server.answer
  server.answer = (seen, response) => {
    if (!seen.body.includes('eth_call')) usual(seen, response)
  }
  const policy = chainPolicy({ ...options, service: { ...service, deadlineMs: 300 } })
  await assert.rejects(policy.app(BOOT_INFO), { name: 'PolicyError', code: 'POLICY_TIMEOUT' })
})

test('the key of a hosted node is sent and never told', async (t) => {
  const KEY = 'f00dfeedf00dfeedf00dfeed'
  const path = temporaryFile(t, 'path', `v3/${KEY}\n`)
  const { server, options, service } = await node(t)
  const hidden = { ...service, secretPath: new Secret(path) }
  const open = { ...service, url: `${service.url}/v3/${KEY}` }
  const query = { ...service, url: `${service.url}/rpc?apikey=${KEY}` }
  const usual = server.answer
  for (const one of [hidden, open, query]) {
    const policy = chainPolicy({ ...options, service: one })
    server.answer = usual
    assert.equal((await policy.app(BOOT_INFO)).allowed, true)
    assert.ok(server.seen.at(-1)?.path.includes(KEY))
    const { ethRpcUrl } = await policy.describe()
    assert.equal(ethRpcUrl, service.url)

    const repeated = `invalid key ${KEY}`
    const failing = [
      json({ error: repeated }, 401),
      json({ error: repeated }),
      json({ jsonrpc: '2.0', id: 1, error: { code: -32000, message: repeated } }),
    ]
    for (const answer of failing) {
      server.answer = answer
      const error = await policy.app(BOOT_INFO).catch((thrown: PolicyError) => thrown)
      assert.ok(error instanceof Error)
      assert.match(error.message, /\[secret\]/)
      assert.ok(!inspect(error, { depth: 9, showHidden: true }).includes(KEY))
    }
  }
  const gone = chainPolicy({
    ...options,
    service: { ...open, url: `http://127.0.0.1:1/v3/${KEY}` },
  })
  const error = await gone.app(BOOT_INFO).catch((thrown: PolicyError) => thrown)
  assert.ok(error instanceof Error)
  assert.match(error.message, /^Cannot ask chain node http:\/\/127\.0\.0\.1:1: E/)
  assert.ok(!inspect(error, { depth: 9, showHidden: true }).includes(KEY))

  // A path never leads to another host.
  const other = await standIn(t, json({}))
  for (const slashes of ['//', '\\\\', '/\\', '\\/']) {
    const file = temporaryFile(t, 'path', other.url.replace('http://', slashes))
    const policy = chainPolicy({
      ...options,
      service: { ...service, secretPath: new Secret(file) },
    })
    server.answer = usual
    assert.equal((await policy.app(BOOT_INFO)).allowed, true)
    assert.equal(other.seen.length, 0)
  }

  const broken = { ...service, secretPath: new Secret(temporaryFile(t, 'path', 'two words')) }
  await assert.rejects(chainPolicy({ ...options, service: broken }).app(BOOT_INFO), {
    code: 'POLICY_SETUP',
  })
})

test('facts', async (t) => {
  const { policy, behind, service } = await node(t)
  const facts = {
    isDev: false,
    gatewayAppId: '0xgateway',
    kmsContractAddress: CONTRACT,
    chainId: CHAIN_ID,
    appImplementation: IMPLEMENTATION,
    ethRpcUrl: service.url,
  }
  assert.deepEqual(await policy.describe(), facts)
  // A contract from before there were factories.
  behind.now = {
    get appImplementation(): unknown {
      throw { code: 3, message: 'execution reverted', data: '0x' }
    },
  }
  assert.deepEqual(await policy.describe(), { ...facts, appImplementation: undefined })
  behind.now = { appImplementation: `0x${'f'.repeat(64)}` }
  await assert.rejects(policy.describe(), { name: 'PolicyError', code: 'POLICY_MALFORMED' })
  behind.now = { chainId: '0x1' }
  await assert.rejects(policy.describe(), { name: 'PolicyError', code: 'POLICY_CHAIN' })
})
