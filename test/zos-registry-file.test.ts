import assert from 'node:assert/strict'
import { readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { readRegistryDocument } from '../plugins/zos/registry/document.ts'
import {
  createFileRegistry,
  type FileRegistry,
  type FileRegistryOptions,
} from '../plugins/zos/registry/file-registry.ts'
import { RegistryError } from '../plugins/zos/registry/registry.ts'
import { DOCUMENT, eventually, withFolder } from './helpers/zos-registry.ts'

const BIG = 18446744073709551615n

interface Rig {
  readonly path: string
  readonly registry: FileRegistry
  readonly reports: (string | undefined)[]
  /** How often anything may have changed. */
  changes(): number
}

/** A started registry over a file with this text, or none. */
function withRegistry(
  text: string | undefined,
  work: (rig: Rig) => Promise<void>,
  options: Partial<FileRegistryOptions> = {},
): Promise<void> {
  return withFolder(async (folder) => {
    const path = join(folder, 'registry.json')
    if (text !== undefined) writeFileSync(path, text)
    const reports: (string | undefined)[] = []
    const registry = createFileRegistry({
      path,
      pollMs: 20,
      report: (problem) => void reports.push(problem),
      ...options,
    })
    let changes = 0
    registry.onChange(() => changes++)
    await registry.start()
    try {
      await work({ path, registry, reports, changes: () => changes })
    } finally {
      await registry.stop()
    }
  })
}

/** The document with one part replaced. */
const changed = (from: string, to: string) => {
  assert.ok(DOCUMENT.includes(from), from)
  return DOCUMENT.replace(from, to)
}

function renameOver(path: string, text: string): void {
  writeFileSync(`${path}.new`, text)
  renameSync(`${path}.new`, path)
}

test('the registry in a file answers everything, with exact ids and canonical addresses', () =>
  withRegistry(DOCUMENT, async ({ registry, reports }) => {
    assert.deepEqual(await registry.node(), { id: 11, twinId: 17, farmId: 1 })
    assert.equal(await registry.farmerTwin(), 2)
    assert.deepEqual(await registry.twin(42), {
      id: 42,
      keyType: 'ed25519',
      publicKey: new Uint8Array(32).fill(0x8a),
      relays: ['r1.example', 'r2.example'],
      pk: undefined,
    })
    const other = await registry.twin(43)
    assert.equal(other?.keyType, undefined)
    assert.deepEqual(other?.relays, [])
    assert.deepEqual(other?.pk, new Uint8Array(33).fill(2))
    assert.equal(await registry.twin(44), undefined)
    assert.deepEqual(await registry.contract(BIG), {
      contractId: BIG,
      twinId: 42,
      state: 'created',
      data: {
        type: 'node',
        nodeId: 11,
        deploymentHash: '354efa689cb3fd56b6599ba5561dae86',
        publicIps: [{ ip: '2001:db8::5/64', gateway: '2001:db8::1' }],
      },
    })
    assert.equal((await registry.contract(9007199254740993n))?.state, 'grace_period')
    assert.equal(await registry.contract(9007199254740992n), undefined)
    assert.deepEqual((await registry.contract(7n))?.data, { type: 'rent', nodeId: 11 })
    assert.deepEqual(await registry.activeContracts(), [BIG, 9007199254740993n])
    assert.equal(await registry.nameContract('web'), 6n)
    assert.equal(await registry.nameContract('other'), undefined)
    assert.equal(await registry.rentContract(), 7n)
    assert.deepEqual(registry.adminTwins(), [42])
    assert.equal(registry.notReady(), undefined)
    assert.deepEqual(reports, [])
  }))

test('a rent contract that is over is none', () =>
  withRegistry(
    changed('"type":"rent","state":"created"', '"type":"rent","state":"deleted"'),
    async ({ registry }) => assert.equal(await registry.rentContract(), undefined),
  ))

test('only node and farm have to be there', () => {
  const { twins, contracts, rentContract, adminTwins } = readRegistryDocument(
    '{"node":{"id":1,"twin_id":2,"farm_id":3},"farm":{"id":3,"twin_id":4}}',
  )
  assert.deepEqual([twins.size, contracts.size, rentContract, adminTwins], [0, 0, undefined, []])
})

test('a document that is wrong is refused with the place and the value', () => {
  const one = '"contract_id":18446744073709551615'
  const cases: readonly (readonly [string, string, RegExp])[] = [
    [one, '"contract_id":18446744073709551616', /^contracts\[0\]\.contract_id must be an integer/],
    [one, '"contract_id":"7"', /contract_id must be .*, it is "7"/],
    [one, '"contract_id":7.0', /contract_id must be .*, it is 7\.0/],
    [one, '"contract_id":0', /contract_id must be .*, it is 0/],
    [one, '"contract_id":9007199254740993', /^contracts\[1\] has the id 9007199254740993 of one/],
    [one, `${one},"contract_id":1`, /^contracts\[0\] "contract_id" comes twice/],
    [one, '"contractid":1', /^contracts\[0\] "contractid" is not known here, only contract_id/],
    ['"state":"created"', '"state":"active"', /\.state must be one of created, grace_period, del/],
    ['"type":"rent"', '"type":"Rent"', /^contracts\[6\]\.type must be one of node, name, rent/],
    ['"name":"web"', '"name":""', /^contracts\[4\]\.name must not be empty/],
    ['354EFA68', '354EFA6', /^contracts\[0\]\.deployment_hash must be 32 hex digits/],
    ['354EFA68', '354EFA6g', /deployment_hash must be 32 hex digits/],
    ['0005/64', '0005', /^contracts\[0\]\.public_ips\[0\]\.ip must be an IP address with its/],
    ['0005/64', '0005/129', /public_ips\[0\]\.ip must be an IP address with its prefix length/],
    ['2001:db8:0::1', 'x', /public_ips\[0\]\.gateway must be an IP address, it is "x"/],
    ['"id":42', '"id":4294967296', /^twins\[0\]\.id must be an integer from 1 to 2\^32 - 1/],
    ['"id":43', '"id":42', /^twins\[1\] has the id 42 of one before it/],
    ['8A8A', '8A8', /^twins\[0\]\.public_key must be 64 hex digits/],
    ['0202', '02', /^twins\[1\]\.pk must be 66 hex digits/],
    ['"ed25519"', '"rsa"', /^twins\[0\]\.key_type must be one of ed25519, sr25519, it is "rsa"/],
    ['"farm_id":1', '"farm_id":9', /^farm\.id must be the node's farm, 9, it is 1/],
    ['"farm":{"id":1,"twin_id":2}', '"farm":null', /^farm must be an object, it is null/],
    ['"admin_twins":[42]', '"admin_twins":42', /^admin_twins must be a list/],
    ['"admin_twins":[42]', '"admin_twins":[-1]', /^admin_twins\[0\] must be an integer/],
    ['"rent_contract":7', '"rent_contract":true', /^rent_contract must be an integer/],
    [DOCUMENT, '[]', /^the document must be an object/],
    [DOCUMENT, '{"node":', /^the document is no JSON: unexpected end of JSON input/],
    [DOCUMENT, '['.repeat(50), /^the document is no JSON: exceeded max depth/],
    [DOCUMENT, '', /^the document is no JSON/],
  ]
  for (const [from, to, message] of cases) {
    const text = changed(from, to)
    assert.throws(
      () => readRegistryDocument(text),
      (error) => {
        assert.ok(error instanceof RegistryError)
        assert.equal(error.code, 'REGISTRY_INVALID')
        assert.match(error.message, message)
        return true
      },
    )
  }
})

test('a change is seen, by rename and in place', () =>
  withRegistry(DOCUMENT, async ({ path, registry, changes }) => {
    assert.equal(changes(), 1)
    renameOver(path, changed('"admin_twins":[42]', '"admin_twins":[1]'))
    await eventually('a rename is seen', () => registry.adminTwins()[0] === 1)
    writeFileSync(path, changed('"admin_twins":[42]', '"admin_twins":[2]'))
    await eventually('a write is seen', () => registry.adminTwins()[0] === 2)
    assert.equal(changes(), 3)
  }))

test('a change within one tick of the clock of the file system, of the same length, is seen', () =>
  withRegistry(DOCUMENT, async ({ path, registry }) => {
    for (const twin of [1, 2, 3, 4, 5]) {
      const { mtime, atime } = statSync(path)
      writeFileSync(path, changed('"admin_twins":[42]', `"admin_twins":[${twin}]`))
      utimesSync(path, atime, mtime)
      await eventually(`twin ${twin} is seen`, () => registry.adminTwins()[0] === twin)
    }
  }))

test('a bad or missing file leaves the last good one, and is reported once', () =>
  withRegistry(DOCUMENT, async ({ path, registry, reports, changes }) => {
    renameOver(path, changed('"id":42', '"id":true'))
    await eventually('the bad file is reported', () => reports.length === 1)
    assert.match(
      reports[0] ?? '',
      /^Cannot use registry ".*registry\.json": twins\[0\]\.id must be .*; the last good one stays/,
    )
    assert.equal((await registry.twin(42))?.id, 42)
    assert.equal(registry.notReady(), undefined)
    rmSync(path)
    await eventually('the missing file is reported', () => reports.length === 2)
    assert.match(reports[1] ?? '', /^Cannot read registry: .*ENOENT.*; write the document there/)
    assert.equal((await registry.twin(42))?.id, 42)
    renameOver(path, DOCUMENT)
    await eventually('it is right again', () => reports.length === 3)
    assert.equal(reports[2], undefined)
    assert.ok(changes() >= 2)
  }))

test('without a good file it says why, until there is one', () =>
  withRegistry(undefined, async ({ path, registry, reports }) => {
    assert.equal(reports.length, 1)
    assert.match(registry.notReady() ?? '', /^Cannot read registry: .*PUT it to \/zos-registry$/)
    const unreachable = { name: 'RegistryError', code: 'REGISTRY_UNREACHABLE' }
    await assert.rejects(registry.contract(1n), unreachable)
    await assert.rejects(registry.node(), unreachable)
    assert.deepEqual(registry.adminTwins(), [])
    writeFileSync(path, '{"node":7}')
    await eventually('the bad one is reported', () => reports.length === 2)
    await assert.rejects(registry.twin(1), { code: 'REGISTRY_INVALID', message: /farm|node must/ })
    writeFileSync(path, DOCUMENT)
    await eventually('the good one is read', () => registry.notReady() === undefined)
    await eventually('that is told', () => reports.at(-1) === undefined)
  }))

test('a folder in the place of the file, and a file too long, are said', () =>
  withFolder(async (folder) => {
    const registry = createFileRegistry({ path: folder })
    await registry.start()
    await registry.stop()
    assert.match(registry.notReady() ?? '', /is not a file/)
    const path = join(folder, 'long.json')
    writeFileSync(path, ' '.repeat(16 * 1024 * 1024 + 1))
    const long = createFileRegistry({ path })
    await long.start()
    await long.stop()
    assert.match(long.notReady() ?? '', /more than 16777216 bytes/)
  }))

test('a replaced document is in force at once and in the file', () =>
  withRegistry(undefined, async ({ path, registry, changes, reports }) => {
    await registry.replace(DOCUMENT)
    assert.equal(registry.notReady(), undefined)
    assert.equal((await registry.twin(42))?.id, 42)
    assert.equal(readFileSync(path, 'utf8'), DOCUMENT)
    assert.equal(statSync(path).mode & 0o777, 0o600)
    await eventually('the watch sees that it is right', () => reports.at(-1) === undefined)
    const before = changes()
    const next = changed('"admin_twins":[42]', '"admin_twins":[9]')
    await Promise.all([registry.replace(DOCUMENT), registry.replace(next)])
    assert.deepEqual(registry.adminTwins(), [9])
    assert.equal(readFileSync(path, 'utf8'), next)
    assert.equal(changes(), before + 2)
  }))

test('a document that is refused changes nothing', () =>
  withRegistry(DOCUMENT, async ({ path, registry, changes }) => {
    await assert.rejects(registry.replace('{}'), {
      code: 'REGISTRY_INVALID',
      message: 'Cannot take registry: node must be an object, it is missing',
    })
    await assert.rejects(registry.replace(' '.repeat(16 * 1024 * 1024 + 1)), {
      code: 'REGISTRY_INVALID',
      message: /at most 16777216 are taken/,
    })
    assert.equal(readFileSync(path, 'utf8'), DOCUMENT)
    assert.equal(changes(), 1)
  }))

test('it starts and stops twice, and stops without a start', () =>
  withFolder(async (folder) => {
    const registry = createFileRegistry({ path: join(folder, 'none') })
    await registry.stop()
    await Promise.all([registry.start(), registry.start()])
    await registry.stop()
    await registry.stop()
  }))
