import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  decodeContract,
  decodeContractIds,
  decodeFarmTwin,
  decodeNode,
  decodeTwin,
  decodeU32,
  decodeU64,
} from '../plugins/zos/registry/chain/records.ts'
import { STORAGE, twox128 } from '../plugins/zos/registry/chain/storage-key.ts'
import { xxHash64 } from '../plugins/zos/registry/chain/xxhash64.ts'
import { type Contract, RegistryError, type Twin } from '../plugins/zos/registry/registry.ts'
import { vectors } from './helpers/vectors.ts'
import {
  compact,
  contractBytes,
  farmBytes,
  nodeBytes,
  twinBytes,
  u32,
  u64,
  vec,
} from './helpers/zos-registry-scale.ts'

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
const bytes = (text: string) => new Uint8Array(Buffer.from(text.replace(/^0x/, ''), 'hex'))
const CHAIN = vectors('zos')
const MAX_U64 = 18446744073709551615n

test('xxHash64 gives the published values', () => {
  const hash = (text: string, seed = 0n) => xxHash64(new TextEncoder().encode(text), seed)
  assert.equal(hash(''), 0xef46db3751d8e999n)
  assert.equal(hash('a'), 0xd24ec4f1a98c6e5bn)
  assert.equal(hash('abc'), 0x44bc2cf5ad770999n)
  assert.equal(hash('Nobody inspects the spammish repetition'), 0xfbcea83c8a378bf1n)
})

test('names of storage are hashed as Substrate does', () => {
  // The best known prefix of all: System.Account.
  assert.equal(hex(twox128('System')), '26aa394eea5630e07c48ae0c9558cef7')
  assert.equal(hex(twox128('Account')), 'b99d880ec681799c0cf30e8886371da9')
})

test('storage keys', () => {
  assert.equal(
    hex(STORAGE.twin(42)),
    '19a2526838feefd7695a3b5715b415b1311378229266fc86f673a3f4cf398e699017d1c733ec2aeaa6fd0230614e397e2a000000',
  )
  assert.equal(
    hex(STORAGE.contract(8955n)),
    '44cb2e51a1811cda53a74b4395e03d574342193e496fab7ec59d615ed0dc5530d9720d3945cd664241cc849cad031265fb22000000000000',
  )
  assert.match(hex(STORAGE.nameContract('web')), /0c776562$/)
  assert.match(hex(STORAGE.contract(MAX_U64)), /ffffffffffffffff$/)
})

test('storage keys of the shared vectors', { skip: CHAIN === undefined }, () => {
  const { keys } = JSON.parse(readFileSync(join(CHAIN as string, 'chain.json'), 'utf8'))
  for (const { item, args, key } of keys) {
    const made = {
      Twins: () => STORAGE.twin(args.twin_id),
      TwinIdByAccountID: () => STORAGE.twinOfAccount(bytes(args.account)),
      Contracts: () => STORAGE.contract(BigInt(args.contract_id)),
      ActiveNodeContracts: () => STORAGE.activeContracts(args.node_id),
      ActiveRentContractForNode: () => STORAGE.rentContract(args.node_id),
      Farms: () => STORAGE.farm(args.farm_id),
    }[item as string]
    assert.ok(made, item)
    assert.equal(`0x${hex(made())}`, key)
  }
})

test('records of the shared vectors', { skip: CHAIN === undefined }, () => {
  const { scale } = JSON.parse(readFileSync(join(CHAIN as string, 'chain.json'), 'utf8'))
  for (const { what, scale: text, value } of scale) {
    if (what === 'Twin') {
      const twin = decodeTwin(bytes(text), value.id)
      assert.equal(`0x${hex(twin.publicKey)}`, value.account_id)
      assert.deepEqual(twin.relays, [value.relay])
      assert.equal(`0x${hex(twin.pk ?? new Uint8Array())}`, value.pk)
      continue
    }
    const contract = decodeContract(bytes(text), BigInt(value.contract_id))
    const { node_id, deployment_hash, public_ips_list } = value.node_contract
    assert.deepEqual(contract, {
      contractId: BigInt(value.contract_id),
      twinId: value.twin_id,
      state: 'created',
      data: {
        type: 'node',
        nodeId: node_id,
        deploymentHash: deployment_hash,
        publicIps: public_ips_list.map(({ ip, gateway }: Record<string, string>) => ({
          ip,
          gateway,
        })),
      },
    })
  }
})

/** Objects as the code under test makes them. */
const PLAIN = { noNullPrototype: true }

const u32s = fc.integer({ min: 0, max: 0xffff_ffff })
const u64s = fc.bigInt({ min: 0n, max: MAX_U64 })
const blobs = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })
const hosts = fc.array(fc.stringMatching(/^[a-z0-9.-]{1,40}$/), { maxLength: 5 })

const twins: fc.Arbitrary<Twin> = fc.record(
  {
    id: u32s,
    keyType: fc.constant(undefined),
    publicKey: blobs(32),
    relays: hosts,
    pk: fc.option(blobs(33), { nil: undefined }),
  },
  PLAIN,
)

const publicIps = fc.array(
  fc
    .tuple(fc.ipV4(), fc.integer({ min: 0, max: 32 }), fc.ipV4())
    .map(([ip, bits, gateway]) => ({ ip: `${ip}/${bits}`, gateway })),
  { maxLength: 70 },
)

const data: fc.Arbitrary<Contract['data']> = fc.oneof(
  fc.tuple(u32s, blobs(16).map(hex), publicIps).map(([nodeId, deploymentHash, publicIps]) => {
    return { type: 'node', nodeId, deploymentHash, publicIps } as const
  }),
  fc.string({ unit: 'grapheme' }).map((name) => ({ type: 'name', name }) as const),
  u32s.map((nodeId) => ({ type: 'rent', nodeId }) as const),
)

const contracts: fc.Arbitrary<Contract> = fc.record(
  {
    contractId: u64s,
    twinId: u32s,
    state: fc.constantFrom('created', 'grace_period', 'deleted'),
    data,
  },
  PLAIN,
)

test('what is written is read the same', () => {
  fc.assert(
    fc.property(twins, (twin) => assert.deepEqual(decodeTwin(twinBytes(twin), twin.id), twin)),
  )
  fc.assert(
    fc.property(contracts, (contract) =>
      assert.deepEqual(decodeContract(contractBytes(contract), contract.contractId), contract),
    ),
  )
  fc.assert(
    fc.property(fc.array(u64s, { maxLength: 200 }), (ids) =>
      assert.deepEqual(decodeContractIds(vec(ids.map(u64))), ids),
    ),
  )
  fc.assert(
    fc.property(u32s, u32s, u32s, (id, farmId, twinId) => {
      assert.deepEqual(decodeNode(nodeBytes(id, farmId, twinId), id), { farmId, twinId })
      assert.equal(decodeFarmTwin(farmBytes(id, twinId), id), twinId)
      assert.equal(decodeU32(u32(id), 'a number'), id)
      assert.equal(decodeU64(u64(BigInt(id)), 'a number'), BigInt(id))
    }),
  )
})

/** Every reader, so that the same can be asked of all. */
const READERS: readonly (readonly [string, (input: Uint8Array) => unknown])[] = [
  ['twin', (input) => decodeTwin(input, 1)],
  ['contract', (input) => decodeContract(input, 1n)],
  ['ids', decodeContractIds],
  ['farm', (input) => decodeFarmTwin(input, 1)],
  ['node', (input) => decodeNode(input, 1)],
  ['u32', (input) => decodeU32(input, 'it')],
  ['u64', (input) => decodeU64(input, 'it')],
]

test('any bytes are read or refused with a typed error', () => {
  for (const [name, read] of READERS) {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (input) => {
        try {
          read(input)
        } catch (error) {
          assert.ok(error instanceof RegistryError, `${name}: ${error}`)
        }
      }),
    )
  }
})

test('a record that ends early is refused wherever it ends', () => {
  const one: Twin = {
    id: 1,
    keyType: undefined,
    publicKey: new Uint8Array(32),
    relays: ['a.example'],
    pk: new Uint8Array(33),
  }
  const whole = twinBytes(one)
  for (let length = 0; length < whole.length; length++) {
    assert.throws(() => decodeTwin(whole.subarray(0, length), 1), { code: 'REGISTRY_INVALID' })
  }
})

const NODE_CONTRACT: Contract = {
  contractId: 1n,
  twinId: 2,
  state: 'created',
  data: { type: 'rent', nodeId: 3 },
}

test('layouts that are not known are refused in the words of the reference', () => {
  const good = contractBytes(NODE_CONTRACT)
  const changed = (at: number, value: number) => {
    const copy = Uint8Array.from(good)
    copy[at] = value
    return copy
  }
  const version = { name: 'RegistryError', code: 'REGISTRY_VERSION', message: /^unknown version: / }
  assert.throws(() => decodeContract(changed(0, 5), 1n), version)
  assert.throws(() => decodeContract(changed(0, 0), 1n), version)
  assert.throws(() => decodeContract(changed(4, 3), 1n), version)
  assert.throws(() => decodeContract(changed(17, 3), 1n), version)
  assert.throws(() => decodeContract(Buffer.concat([good, Buffer.of(0)]), 1n), version)
  const over = contractBytes({ ...NODE_CONTRACT, state: 'deleted' })
  over[5] = 3
  assert.throws(() => decodeContract(over, 1n), version)
  assert.throws(() => decodeFarmTwin(farmBytes(1, 2, 9), 1), version)
  for (const known of [1, 2, 3, 4]) {
    assert.deepEqual(decodeContract(contractBytes(NODE_CONTRACT, known), 1n), NODE_CONTRACT)
  }
})

test('records that are not what was asked for, or absurd, are refused', () => {
  const cases: readonly (readonly [() => unknown, RegExp])[] = [
    [
      () => decodeContract(contractBytes(NODE_CONTRACT), 2n),
      /contract 2 of the chain: its id is 1/,
    ],
    [() => decodeNode(nodeBytes(1, 2, 3), 4), /node 4 of the chain: its id is 1/],
    [() => decodeFarmTwin(farmBytes(1, 2), 3), /farm 3 of the chain: its id is 1/],
    [() => decodeContractIds(compact(65_537)), /65537 elements, at most 65536/],
    [() => decodeContractIds(Buffer.of(3)), /2\^30 or more/],
    [() => decodeU32(u64(1n), 'x'), /4 bytes follow/],
    [
      () => decodeTwin(Buffer.concat([u32(1), Buffer.alloc(32), Buffer.of(2)]), 1),
      /2 says neither/,
    ],
    [
      () =>
        decodeContract(
          contractBytes({
            ...NODE_CONTRACT,
            data: {
              type: 'node',
              nodeId: 1,
              deploymentHash: '0'.repeat(32),
              publicIps: [{ ip: '10.0.0.1', gateway: '' }],
            },
          }),
          1n,
        ),
      /public IP "10\.0\.0\.1" is no address with prefix/,
    ],
  ]
  for (const [read, message] of cases) {
    assert.throws(read, (error) => {
      assert.ok(error instanceof RegistryError)
      assert.match(error.message, message)
      return true
    })
  }
})
