import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { folder, interfaces, machineRoot, nodeFacts, programs } from './helpers/zos-node.ts'

const SINGLE = { is_single: true, is_dual: false, dual_interface: '' }
const DUAL = { is_single: false, is_dual: true, dual_interface: 'eno2' }

/** The server, managed over its bridge, with a folder for its state. */
function server(t: TestContext, options: Parameters<typeof nodeFacts>[1] = {}) {
  const all = interfaces({ br0: ['203.0.113.10/24'], eno2: ['192.168.254.9/24'] })
  return nodeFacts(t, { root: machineRoot(t, 'server'), interfaces: all, ...options })
}

test('public NIC: one of its own, kept over a restart, and back', async (t) => {
  const { facts, stateFolder } = server(t)
  await facts.start()
  assert.deepEqual(await facts.publicNic(), SINGLE)
  await facts.setPublicNic('eno2')
  assert.deepEqual(await facts.publicNic(), DUAL)
  await facts.setPublicNic('eno2')

  const next = server(t, { stateFolder })
  await next.facts.start()
  assert.deepEqual(await next.facts.publicNic(), DUAL)
  await next.facts.setPublicNic('zos')
  assert.deepEqual(await next.facts.publicNic(), SINGLE)
  assert.deepEqual(readdirSync(stateFolder), ['exit-nic.json'])

  const last = server(t, { stateFolder })
  await last.facts.start()
  assert.deepEqual(await last.facts.publicNic(), SINGLE)
  assert.deepEqual(last.log, [])
})

test('public NIC: the bridge of the default route is zos by another name', async (t) => {
  const { facts } = server(t)
  await facts.setPublicNic('eno3')
  await facts.setPublicNic('br0')
  assert.deepEqual(await facts.publicNic(), SINGLE)
})

const REFUSED = [
  ['nothing', 'Link not found'],
  ['', 'Link not found'],
  ['../eno2', 'Link not found'],
  ['lo', 'invalid exit bridge must be a physical nic or the default bridge'],
  ['docker0', 'invalid exit bridge must be a physical nic or the default bridge'],
  ['wg0', 'invalid exit bridge must be a physical nic or the default bridge'],
  ['ib0', 'invalid exit bridge must be a physical nic or the default bridge'],
  ['eno1', "device is 'eno1' already used"],
] as const

for (const [device, message] of REFUSED) {
  test(`public NIC: "${device}" is refused as in the reference`, async (t) => {
    const { facts, stateFolder } = server(t)
    await facts.setPublicNic('eno2')
    await assert.rejects(facts.setPublicNic(device), { name: 'ZosError', kind: 'failed', message })
    assert.deepEqual(await facts.publicNic(), DUAL)
    assert.deepEqual(JSON.parse(readFileSync(join(stateFolder, 'exit-nic.json'), 'utf8')), {
      device: 'eno2',
    })
  })
}

test('public NIC: the interface the node is managed by is used already', async (t) => {
  const all = interfaces({ ens3: ['2001:db8:1::5/64'] })
  const { facts } = nodeFacts(t, { root: machineRoot(t, 'cloud'), interfaces: all })
  const message = "device is 'ens3' already used"
  await assert.rejects(facts.setPublicNic('ens3'), { name: 'ZosError', message })
  await facts.setPublicNic('zos')
  assert.deepEqual(await facts.publicNic(), SINGLE)
})

test('public NIC: the hook gets the device, and its failure leaves the old choice', async (t) => {
  const seen = join(folder(t), 'seen')
  const script =
    'printf "%s\\n" "$*" >> "$1"; test "$3" != eno3 || { echo no carrier >&2; exit 7; }'
  const { facts, stateFolder } = server(t, {
    path: `${programs(t, { rewire: script })}:/usr/bin:/bin`,
    nicHook: ['rewire', seen, '--exit'],
  })
  await facts.setPublicNic('eno2')
  await assert.rejects(facts.setPublicNic('eno3'), {
    name: 'ZosError',
    message: 'Cannot make "eno3" the public NIC: "rewire" ended with exit status 7: no carrier',
  })
  assert.deepEqual(await facts.publicNic(), DUAL)
  await facts.setPublicNic('zos')
  const calls = ['eno2', 'eno3', 'zos'].map((device) => `${seen} --exit ${device}`)
  assert.deepEqual(readFileSync(seen, 'utf8').trim().split('\n'), calls)
  assert.match(readFileSync(join(stateFolder, 'exit-nic.json'), 'utf8'), /zos/)
})

test('public NIC: a hook that is not installed refuses every change', async (t) => {
  const { facts } = server(t, { nicHook: ['rewire'] })
  await assert.rejects(facts.setPublicNic('eno2'), {
    message: 'Cannot make "eno2" the public NIC: "rewire" is not installed',
  })
  assert.deepEqual(await facts.publicNic(), SINGLE)
})

test('public NIC: choices made at one time come one after the other', async (t) => {
  const seen = join(folder(t), 'seen')
  const script = 'echo "begin $2" >> "$1"; sleep 0.1; echo "end $2" >> "$1"'
  const { facts } = server(t, {
    path: `${programs(t, { rewire: script })}:/usr/bin:/bin`,
    nicHook: ['rewire', seen],
  })
  await Promise.all(['eno2', 'eno3', 'zos'].map((device) => facts.setPublicNic(device)))
  const lines = readFileSync(seen, 'utf8').trim().split('\n')
  const expected = ['eno2', 'eno3', 'zos'].flatMap((device) => [`begin ${device}`, `end ${device}`])
  assert.deepEqual(lines, expected)
  assert.deepEqual(await facts.publicNic(), SINGLE)
})

test('public NIC: what cannot be kept is not chosen, and the hook is told to go back', async (t) => {
  const seen = join(folder(t), 'seen')
  const stateFolder = join(folder(t), 'file')
  writeFileSync(stateFolder, '')
  const { facts } = server(t, {
    stateFolder,
    path: `${programs(t, { rewire: 'echo "$2" >> "$1"' })}:/usr/bin:/bin`,
    nicHook: ['rewire', seen],
  })
  await assert.rejects(facts.setPublicNic('eno2'), {
    name: 'ZosError',
    message: /^Cannot keep "eno2" as the public NIC: /,
  })
  assert.deepEqual(await facts.publicNic(), SINGLE)
  assert.deepEqual(readFileSync(seen, 'utf8').trim().split('\n'), ['eno2', 'zos'])
})

for (const text of [
  '',
  '{',
  '{"device":7}',
  '{"device":"a b"}',
  '{"device":".."}',
  'x'.repeat(5000),
]) {
  test(`public NIC: a file of ${JSON.stringify(text.slice(0, 20))} counts as no choice`, async (t) => {
    const stateFolder = folder(t)
    mkdirSync(stateFolder, { recursive: true })
    writeFileSync(join(stateFolder, 'exit-nic.json'), text)
    chmodSync(join(stateFolder, 'exit-nic.json'), 0o600)
    const { facts, log } = server(t, { stateFolder })
    await facts.start()
    assert.deepEqual(await facts.publicNic(), SINGLE)
    assert.match(log.join('\n'), /^Cannot take the public NIC from ".*", "zos" is used: /)
    await facts.setPublicNic('eno2')
    assert.deepEqual(await facts.publicNic(), DUAL)
  })
}
