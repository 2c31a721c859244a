import assert from 'node:assert/strict'
import { test } from 'node:test'
import { STORAGE } from '../plugins/zos/registry/chain/storage-key.ts'
import {
  type ChainRegistryOptions,
  createChainRegistry,
} from '../plugins/zos/registry/chain-registry.ts'
import type { Contract, Registry } from '../plugins/zos/registry/registry.ts'
import { within } from '../src/deadline.ts'
import { createSelfSigned, type PemPair } from '../src/tls/self-signed.ts'
import { eventually } from './helpers/zos-registry.ts'
import { type ChainStandIn, type Manner, put, startChain } from './helpers/zos-registry-chain.ts'
import {
  contractBytes,
  farmBytes,
  nodeBytes,
  twinBytes,
  u32,
  u64,
  vec,
} from './helpers/zos-registry-scale.ts'

const NODE = 11
const BIG = 18446744073709551615n
const SCHEMES = ['http', 'ws'] as const

const CONTRACT: Contract = {
  contractId: BIG,
  twinId: 42,
  state: 'created',
  data: {
    type: 'node',
    nodeId: NODE,
    deploymentHash: '354efa689cb3fd56b6599ba5561dae86',
    publicIps: [{ ip: '185.206.122.50/24', gateway: '185.206.122.1' }],
  },
}

/** A chain on which the node is known. */
async function furnished(tls?: PemPair): Promise<ChainStandIn> {
  const chain = await startChain(tls)
  put(chain, STORAGE.node(NODE), nodeBytes(NODE, 5, 17))
  put(chain, STORAGE.nodeOfTwin(17), u32(NODE))
  put(chain, STORAGE.twinOfAccount(new Uint8Array(32).fill(9)), u32(17))
  put(chain, STORAGE.farm(5), farmBytes(5, 2))
  put(chain, STORAGE.contract(BIG), contractBytes(CONTRACT))
  put(chain, STORAGE.activeContracts(NODE), vec([u64(BIG)]))
  put(chain, STORAGE.rentContract(NODE), u64(77n))
  put(chain, STORAGE.nameContract('web'), u64(78n))
  const twin = { id: 42, keyType: undefined, relays: ['r.example'], pk: undefined }
  put(chain, STORAGE.twin(42), twinBytes({ ...twin, publicKey: new Uint8Array(32).fill(7) }))
  return chain
}

async function withChains(
  count: number,
  work: (chains: readonly ChainStandIn[]) => Promise<void>,
): Promise<void> {
  const chains = await Promise.all(Array.from({ length: count }, () => furnished()))
  try {
    await within(60_000, work(chains), 'end its test')
  } finally {
    await Promise.all(chains.map((chain) => chain.stop()))
  }
}

async function withRegistry(
  options: Partial<ChainRegistryOptions> & Pick<ChainRegistryOptions, 'urls'>,
  work: (registry: Registry) => Promise<void>,
): Promise<void> {
  const registry = createChainRegistry({
    nodeId: NODE,
    adminTwins: [3],
    lagMs: [],
    timeoutMs: 10_000,
    ...options,
  })
  try {
    await work(registry)
  } finally {
    await registry.stop()
  }
}

for (const scheme of SCHEMES) {
  test(`the registry on the chain answers everything over ${scheme}`, () =>
    withChains(1, async ([chain]) => {
      assert.ok(chain)
      await withRegistry({ urls: [chain.url(scheme)] }, async (registry) => {
        assert.deepEqual(await registry.node(), { id: NODE, twinId: 17, farmId: 5 })
        assert.equal(await registry.farmerTwin(), 2)
        assert.deepEqual(await registry.contract(BIG), CONTRACT)
        assert.equal(await registry.contract(1n), undefined)
        assert.deepEqual(await registry.activeContracts(), [BIG])
        assert.equal(await registry.rentContract(), 77n)
        assert.equal(await registry.nameContract('web'), 78n)
        assert.equal(await registry.nameContract('other'), undefined)
        assert.deepEqual(await registry.twin(42), {
          id: 42,
          keyType: undefined,
          publicKey: new Uint8Array(32).fill(7),
          relays: ['r.example'],
          pk: undefined,
        })
        assert.equal(await registry.twin(43), undefined)
        assert.deepEqual(registry.adminTwins(), [3])
        chain.storage.clear()
        assert.equal(await registry.rentContract(), undefined)
        assert.deepEqual(await registry.activeContracts(), [])
      })
    }))

  test(`a node of the chain over ${scheme}s has to have a certificate that is trusted`, async () => {
    const pair = createSelfSigned(['127.0.0.1'], Date.now())
    const chain = await furnished(pair)
    const urls = [chain.url(scheme)]
    try {
      await withRegistry({ urls, ca: pair.cert }, async (registry) => {
        assert.deepEqual(await registry.contract(BIG), CONTRACT)
      })
      const { cert: other } = createSelfSigned(['127.0.0.1'], Date.now())
      for (const ca of [undefined, other]) {
        const calls = chain.calls.length
        await withRegistry({ urls, ca }, async (registry) => {
          await assert.rejects(registry.contract(BIG), { code: 'REGISTRY_UNREACHABLE' })
        })
        assert.equal(chain.calls.length, calls)
      }
    } finally {
      await chain.stop()
    }
  })

  test(`many lookups at once over ${scheme} get each its own answer`, () =>
    withChains(1, async ([chain]) => {
      assert.ok(chain)
      const ids = Array.from({ length: 300 }, (_, at) => BigInt(at + 1))
      for (const id of ids) {
        put(chain, STORAGE.contract(id), contractBytes({ ...CONTRACT, contractId: id }))
      }
      await withRegistry({ urls: [chain.url(scheme)] }, async (registry) => {
        const found = await Promise.all(ids.map((id) => registry.contract(id)))
        assert.deepEqual(
          found.map((contract) => contract?.contractId),
          ids,
        )
        if (scheme === 'ws') assert.equal(chain.sockets(), 1)
      })
    }))

  const faults: readonly (readonly [string, Manner, string, RegExp])[] = [
    ['is silent', () => 'silence', 'REGISTRY_UNREACHABLE', /no answer within 300 ms/],
    ['hangs up', () => 'cut', 'REGISTRY_UNREACHABLE', /ECONNRESET|connection/],
    ['talks garbage', () => '<html>', 'REGISTRY_INVALID', /no JSON-RPC reply/],
    ['answers a list', () => '[]', 'REGISTRY_INVALID', /no JSON-RPC reply/],
    ['is refused', refusal, 'REGISTRY_INVALID', /error -32005, "too many\\nrequests"/],
    ['gives no hex', (good) => result(good, '"0x0"'), 'REGISTRY_INVALID', /no storage value/],
    ['gives a number', (good) => result(good, '7'), 'REGISTRY_INVALID', /no storage value/],
    ['is too long', (good) => good + ' '.repeat(9 << 20), '*', /too long|connection|JSON-RPC/],
  ]
  for (const [what, manner, code, message] of faults) {
    test(`a node of the chain that ${what} over ${scheme} is a clear error, and recovered from`, () =>
      withChains(1, async ([chain]) => {
        assert.ok(chain)
        const timeoutMs = what === 'is silent' ? 300 : 20_000
        await withRegistry({ urls: [chain.url(scheme)], timeoutMs }, async (registry) => {
          chain.manner = manner
          await assert.rejects(registry.contract(BIG), (error: Error & { code: string }) => {
            assert.equal(error.name, 'RegistryError')
            if (code !== '*') assert.equal(error.code, code)
            assert.match(error.message, /^Cannot ask the chain: (http|ws):\/\/127\.0\.0\.1:\d+: /)
            assert.match(error.message, message)
            assert.doesNotMatch(error.message, /secret|key/)
            return true
          })
          chain.manner = (good) => good
          if (what === 'is silent') await patiently(registry)
          else assert.deepEqual(await registry.contract(BIG), CONTRACT)
        })
      }))
  }

  test(`nobody at the address over ${scheme} is an unreachable registry`, async () => {
    const chain = await startChain()
    const url = chain.url(scheme)
    await chain.stop()
    await withRegistry({ urls: [url] }, async (registry) => {
      await assert.rejects(registry.twin(42), {
        code: 'REGISTRY_UNREACHABLE',
        message: /^Cannot ask the chain: /,
      })
    })
  })

  test(`a lookup over ${scheme} that is given up ends with the caller's reason`, () =>
    withChains(1, async ([chain]) => {
      assert.ok(chain)
      await withRegistry({ urls: [chain.url(scheme)], timeoutMs: 60_000 }, async (registry) => {
        const abort = new AbortController()
        chain.manner = () => {
          abort.abort(new Error('given up'))
          return 'silence'
        }
        await assert.rejects(registry.contract(BIG, abort.signal), /^Error: given up$/)
        await assert.rejects(registry.contract(BIG, abort.signal), /^Error: given up$/)
        chain.manner = (good) => good
        assert.deepEqual(await registry.contract(BIG), CONTRACT)
      })
    }))
}

/** A busy machine may take longer than the short deadline of the test. */
async function patiently(registry: Registry): Promise<void> {
  for (let tries = 0; tries < 50; tries++) {
    const found = await registry.contract(BIG).catch(() => undefined)
    if (found) return
  }
  throw new Error('the chain was not asked again')
}

function refusal(good: string): string {
  const { id } = JSON.parse(good)
  const error = { code: -32005, message: 'too many\nrequests' }
  return JSON.stringify({ jsonrpc: '2.0', id, error })
}

function result(good: string, value: string): string {
  return `{"jsonrpc":"2.0","id":${JSON.parse(good).id},"result":${value}}`
}

test('a status and an answer for another request over http are clear errors', () =>
  withChains(1, async ([chain]) => {
    assert.ok(chain)
    await withRegistry({ urls: [chain.url('http')] }, async (registry) => {
      chain.manner = () => 'status 500'
      await assert.rejects(registry.contract(BIG), {
        code: 'REGISTRY_UNREACHABLE',
        message: /: status 500$/,
      })
      chain.manner = () => '{"jsonrpc":"2.0","id":99999,"result":null}'
      await assert.rejects(registry.contract(BIG), {
        code: 'REGISTRY_INVALID',
        message: /for another request/,
      })
    })
  }))

test('answers over ws that nobody waits for are passed over', () =>
  withChains(1, async ([chain]) => {
    assert.ok(chain)
    await withRegistry({ urls: [chain.url('ws')], timeoutMs: 300 }, async (registry) => {
      chain.manner = () => '{"jsonrpc":"2.0","id":99999,"result":null}'
      await assert.rejects(registry.contract(BIG), /no answer within/)
      chain.manner = () => '{"jsonrpc":"2.0","method":"state_storage","params":{}}'
      await assert.rejects(registry.contract(BIG), /no answer within/)
      chain.manner = () => '{"error":{"code":-32700,"message":"Parse error"},"id":null}'
      await assert.rejects(registry.contract(BIG), /error -32700, "Parse error"/)
    })
  }))

test('lookups are refused where far too many wait', () =>
  withChains(1, async ([chain]) => {
    assert.ok(chain)
    chain.manner = () => 'silence'
    await withRegistry({ urls: [chain.url('ws')], timeoutMs: 60_000 }, async (registry) => {
      const aborts = Array.from({ length: 2048 }, () => new AbortController())
      const waiting = aborts.map(({ signal }) => registry.contract(BIG, signal))
      await assert.rejects(registry.contract(BIG), {
        code: 'REGISTRY_UNREACHABLE',
        message: 'Cannot ask the chain: too many lookups wait',
      })
      for (const abort of aborts) abort.abort(new Error('given up'))
      for (const { status } of await Promise.allSettled(waiting)) assert.equal(status, 'rejected')
      chain.manner = (good) => good
      assert.deepEqual(await registry.contract(BIG), CONTRACT)
    })
  }))

test('another node answers where one does not, and stays the first to be asked', () =>
  withChains(2, async ([bad, good]) => {
    assert.ok(bad && good)
    bad.manner = () => '<html>'
    await withRegistry({ urls: [bad.url('http'), good.url('ws')] }, async (registry) => {
      assert.deepEqual(await registry.contract(BIG), CONTRACT)
      assert.deepEqual(await registry.contract(BIG), CONTRACT)
      assert.equal(bad.calls.length, 1)
      good.manner = () => 'cut'
      await assert.rejects(registry.contract(BIG), {
        code: 'REGISTRY_INVALID',
        message: /ws:.*: the connection (ended|failed); http:.*: its answer is no JSON-RPC reply$/,
      })
      bad.manner = (answer) => answer
      assert.deepEqual(await registry.contract(BIG), CONTRACT)
    })
  }))

test('a node of the chain that lags behind is asked again, and another one', () =>
  withChains(2, async ([late, other]) => {
    assert.ok(late && other)
    late.storage.clear()
    other.storage.clear()
    let asked = 0
    other.manner = (good) => {
      if (++asked === 1) put(other, STORAGE.contract(BIG), contractBytes(CONTRACT))
      return good
    }
    const urls = [late.url('http'), other.url('http')]
    await withRegistry({ urls, lagMs: [1, 1, 1, 1] }, async (registry) => {
      assert.deepEqual(await registry.contract(BIG), CONTRACT)
      assert.equal(await registry.contract(8n), undefined)
    })
  }))

test('the node is found by its twin or by its account', () =>
  withChains(1, async ([chain]) => {
    assert.ok(chain)
    const urls = [chain.url('http')]
    const expected = { id: NODE, twinId: 17, farmId: 5 }
    await withRegistry({ urls, nodeId: undefined, twinId: 17 }, async (registry) => {
      assert.deepEqual(await registry.node(), expected)
    })
    const account = new Uint8Array(32).fill(9)
    await withRegistry({ urls, nodeId: undefined, account }, async (registry) => {
      assert.deepEqual(await registry.node(), expected)
    })
    await withRegistry({ urls, nodeId: undefined, twinId: 18 }, async (registry) => {
      await assert.rejects(registry.node(), {
        code: 'REGISTRY_INVALID',
        message: 'Cannot find the node of twin 18 on the chain',
      })
    })
    assert.throws(() => createChainRegistry({ urls, adminTwins: [] }), TypeError)
    assert.throws(() => createChainRegistry({ urls: [], nodeId: 1, adminTwins: [] }), TypeError)
  }))

test("a twin's key is kept for an hour, that there is none for a moment, contracts not", () =>
  withChains(1, async ([chain]) => {
    assert.ok(chain)
    let now = 0
    await withRegistry({ urls: [chain.url('http')], now: () => now }, async (registry) => {
      await registry.twin(42)
      await registry.twin(43)
      await registry.node()
      const before = chain.calls.length
      now = 9000
      await registry.twin(42)
      await registry.twin(43)
      await registry.farmerTwin()
      assert.equal(chain.calls.length, before)
      now = 11_000
      await registry.twin(43)
      assert.equal(chain.calls.length, before + 1)
      now = 3_599_000
      await registry.twin(42)
      assert.equal(chain.calls.length, before + 1)
      now = 3_601_000
      await registry.twin(42)
      assert.equal(chain.calls.length, before + 2)
      await registry.contract(BIG)
      await registry.contract(BIG)
      assert.equal(chain.calls.length, before + 4)
    })
  }))

test('changes of contracts are told, and that the chain is back', () =>
  withChains(1, async ([chain]) => {
    assert.ok(chain)
    const reports: (string | undefined)[] = []
    const report = (problem: string | undefined) => void reports.push(problem)
    const options = { urls: [chain.url('ws')], pollMs: 10, report }
    await withRegistry(options, async (registry) => {
      let changes = 0
      registry.onChange(() => changes++)
      const end = registry.onChange(() => {
        throw new Error('a listener that fails')
      })
      assert.equal(registry.notReady(), 'the chain was not asked yet')
      await registry.start()
      await registry.start()
      await eventually('the first look is told', () => changes === 1)
      assert.equal(registry.notReady(), undefined)
      end()
      const grace = contractBytes({ ...CONTRACT, state: 'grace_period' })
      put(chain, STORAGE.contract(BIG), grace)
      await eventually('a grace period is told', () => changes === 2)
      put(chain, STORAGE.activeContracts(NODE), vec([]))
      await eventually('the end of a contract is told', () => changes === 3)
      put(chain, STORAGE.rentContract(NODE), u64(79n))
      await eventually('a rent is told', () => changes === 4)
      const seen = chain.calls.length
      await eventually('it looks again', () => chain.calls.length > seen + 4)
      assert.equal(changes, 4)
      chain.manner = () => '<html>'
      await eventually('it is not ready', () => registry.notReady() !== undefined)
      assert.match(registry.notReady() ?? '', /^Cannot ask the chain: ws:/)
      chain.manner = (good) => good
      await eventually('it is back', () => registry.notReady() === undefined)
      await eventually('that is told', () => changes === 5)
      assert.equal(reports.length, 2)
      assert.equal(reports[1], undefined)
    })
  }))

test('more contracts than fit one request are watched', () =>
  withChains(1, async ([chain]) => {
    assert.ok(chain)
    const ids = Array.from({ length: 250 }, (_, at) => BigInt(at + 1))
    for (const id of ids) {
      put(chain, STORAGE.contract(id), contractBytes({ ...CONTRACT, contractId: id }))
    }
    put(chain, STORAGE.activeContracts(NODE), vec(ids.map(u64)))
    await withRegistry({ urls: [chain.url('http')], pollMs: 10 }, async (registry) => {
      let changes = 0
      registry.onChange(() => changes++)
      await registry.start()
      await eventually('the first look is told', () => changes === 1)
      put(chain, STORAGE.contract(250n), contractBytes({ ...CONTRACT, contractId: 250n }, 5))
      await eventually('a change of the last one is told', () => changes === 2)
    })
  }))

test('a record of another layout says so in the words of the reference', () =>
  withChains(1, async ([chain]) => {
    assert.ok(chain)
    await withRegistry({ urls: [chain.url('http')] }, async (registry) => {
      put(chain, STORAGE.contract(BIG), contractBytes(CONTRACT, 5))
      await assert.rejects(registry.contract(BIG), {
        code: 'REGISTRY_VERSION',
        message:
          'unknown version: cannot read contract 18446744073709551615 of the chain: it is 5; ' +
          'a newer cvmd may know it',
      })
      const longer = Buffer.concat([contractBytes(CONTRACT), Buffer.of(1)])
      put(chain, STORAGE.contract(BIG), longer)
      await assert.rejects(registry.contract(BIG), {
        code: 'REGISTRY_VERSION',
        message: /^unknown version: .* \(version 4\) of|^unknown version: .*1 bytes follow the/,
      })
    })
  }))
