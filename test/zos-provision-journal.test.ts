/** What is on disk: cut, damaged, full, too long, and read again (DESIGN §6). */
import assert from 'node:assert/strict'
import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { replay } from '../plugins/zos/provision/journal/replay.ts'
import { lacks } from './helpers/counterpart.ts'
import {
  deploymentOf,
  disk,
  machine,
  network,
  type TestNode,
  testNode,
} from './helpers/zos-provision.ts'
import { tmpfs, unmount } from './native/test-addon.ts'

const PLANS = [disk('a', 1), machine('vm', 'net'), network('net')]

function fileOf(node: TestNode, contractId = 10n): string {
  return join(node.folder, 'deployments', '42', `${contractId}.jsonl`)
}

/** All that is known of the deployments, in comparable form. */
async function known(node: TestNode): Promise<unknown[]> {
  const all = []
  for (const view of node.deployments.list()) {
    const { twinId, contractId } = view.deployment
    all.push([view, await node.deployments.changes(twinId, contractId)])
  }
  return all
}

async function busy(t: TestContext, more?: Parameters<typeof testNode>[1]): Promise<TestNode> {
  const node = await testNode(t, more)
  await node.accept(deploymentOf(PLANS))
  const next = [disk('a', 2, 1), network('net'), disk('b', 2, 1)]
  await node.accept(deploymentOf(next, { version: 1, metadata: 'two\nlines' }))
  await node.accept(deploymentOf([disk('x', 1)], { contractId: 18446744073709551615n }))
  return node
}

test('a start reads what was written, and only the owner may', async (t) => {
  const node = await busy(t)
  const before = await known(node)
  await node.restart()
  await node.idle()
  assert.deepEqual(await known(node), before)
  const modes = [node.folder, 'deployments', '42', '10.jsonl'].map((_, i, path) =>
    (statSync(join(...path.slice(0, i + 1))).mode & 0o777).toString(8),
  )
  assert.deepEqual(modes.slice(1), ['700', '700', '600'])
  // Any tool can read it.
  const lines = readFileSync(fileOf(node), 'utf8').trimEnd().split('\n')
  const records = lines.map((line) => JSON.parse(line))
  assert.equal(records[0].record, 'deploy')
  assert.equal(JSON.parse(records[0].workloads[0]).name, 'a')
  assert.equal(records.at(-1).name, 'b')
})

test('a journal cut anywhere is read up to there', async (t) => {
  const node = await busy(t)
  const bytes = new Uint8Array(readFileSync(fileOf(node)))
  const ends = [...bytes.keys()].filter((at) => bytes[at] === 10).map((at) => at + 1)
  for (let cut = 0; cut <= bytes.length; cut += 7) {
    const found = replay(bytes.subarray(0, cut))
    const whole = ends.filter((end) => end <= cut)
    assert.deepEqual(
      [found.records, found.size, found.torn, found.damage],
      [whole.length, whole.at(-1) ?? 0, cut - (whole.at(-1) ?? 0), []],
    )
  }
})

test('the rest of a write that was cut goes away, and the next one follows', async (t) => {
  const node = await busy(t)
  const before = await known(node)
  await node.deployments.stop()
  appendFileSync(fileOf(node), '{"record":"result","name":"a","of":"prov')
  writeFileSync(join(node.folder, 'deployments', '42', '.cvmd-0123456789ab.10.jsonl'), 'left')
  await node.restart()
  await node.idle()
  assert.deepEqual(await known(node), before)
  assert.deepEqual(readdirSync(join(node.folder, 'deployments', '42')).sort(), [
    '10.jsonl',
    '18446744073709551615.jsonl',
  ])
  await node.accept(
    deploymentOf([disk('a', 3, 2), network('net'), disk('b', 2, 1)], { version: 2 }),
  )
  const after = await known(node)
  await node.restart()
  await node.idle()
  assert.deepEqual(await known(node), after)
  assert.ok(node.driver('zmount').swept)
})

test('a damaged record costs nothing else, and the file is kept as it was', async (t) => {
  const node = await busy(t)
  await node.deployments.stop()
  const path = fileOf(node)
  const lines = readFileSync(path, 'utf8').split('\n')
  const at = lines.findIndex((line) => line.includes('"name":"net","of":"provision"'))
  // The JSON is still whole: only the checksum tells.
  lines[at] = (lines[at] as string).replace('42-10-net', '42-10-nat')
  const damaged = lines.join('\n')
  writeFileSync(path, damaged)
  node.driver('zmount').swept = undefined
  await node.restart()
  await node.idle()
  // The outcome that was lost comes again.
  assert.deepEqual(node.states(), ['a ok', 'net ok', 'b ok'])
  assert.equal(node.deployments.list().length, 2)
  const problem = node.events.find((event) => event.includes('is damaged'))
  assert.match(problem ?? '', new RegExp(`line ${at + 1}: its checksum is wrong`))
  assert.doesNotMatch(problem ?? '', /secret/)
  const folder = join(node.folder, 'deployments', '42')
  const [aside] = readdirSync(folder).filter((name) => name.includes('.damaged-'))
  assert.equal(readFileSync(join(folder, aside as string), 'utf8'), damaged)
  assert.equal(node.driver('zmount').swept, undefined, 'nothing is removed that is not known')
  // The journal is sound again; the copy is still in the way of a clean-up.
  const before = await known(node)
  await node.restart()
  await node.idle()
  assert.deepEqual(await known(node), before)
  assert.equal(readdirSync(folder).length, 3)
  assert.equal(node.driver('zmount').swept, undefined)
  rmSync(join(folder, aside as string))
  await node.restart()
  await node.idle()
  assert.ok(node.driver('zmount').swept)
})

test('a journal without its beginning is set aside, and takes nothing with it', async (t) => {
  const node = await busy(t)
  await node.deployments.stop()
  const path = fileOf(node)
  const text = readFileSync(path, 'utf8')
  writeFileSync(path, text.replace('"record":"deploy"', '"record":"deplay"'))
  await node.restart()
  await node.idle()
  assert.deepEqual(
    node.deployments.list().map(({ deployment }) => deployment.contractId),
    [18446744073709551615n],
  )
  assert.ok(node.world.has('42-10-a'), 'what runs is left alone')
  // Its owner may send it again, and takes over what runs.
  await node.accept(deploymentOf(PLANS))
  assert.deepEqual(node.states(), ['a ok', 'vm ok', 'net ok'])
})

test('a journal that lost all that was in it is set aside, and what runs is left alone', async (t) => {
  for (const [at, lost] of ['', '\0'.repeat(4096), '{"record":"deploy","at":1'].entries()) {
    const node = await busy(t)
    await node.deployments.stop()
    writeFileSync(fileOf(node), lost)
    node.driver('zmount').swept = undefined
    await node.restart()
    await node.idle()
    assert.ok(node.world.has('42-10-a'), `case ${at}`)
    assert.equal(node.driver('zmount').swept, undefined, 'nothing is removed that is not known')
    const problem = node.events.find((event) => event.includes('is damaged'))
    assert.match(problem ?? '', /10\.jsonl" is damaged \(it has no record\)/)
    await node.accept(deploymentOf(PLANS))
    assert.deepEqual(node.states(), ['a ok', 'vm ok', 'net ok'])
  }
})

test('a journal that cannot be read is not written over', async (t) => {
  const node = await busy(t)
  await node.deployments.stop()
  rmSync(fileOf(node))
  mkdirSync(fileOf(node))
  await node.restart()
  const deployment = deploymentOf(PLANS)
  node.registry.agree(deployment)
  await assert.rejects(
    node.deployments.deploy(42, deployment),
    /^ZosError: the journal of deployment 42-10 cannot be read/,
  )
  assert.equal(node.deployments.list().length, 1)
  rmSync(fileOf(node), { recursive: true })
  writeFileSync(fileOf(node), readFileSync(fileOf(node, 18446744073709551615n)))
  await node.restart()
  const problem = node.events.filter((event) => event.startsWith('Cannot read')).at(-1)
  assert.match(problem ?? '', /it is that of deployment 42-18446744073709551615$/)
})

test('a journal that grew too long keeps its state and the newest of its history', async (t) => {
  const node = await busy(t, { limits: { journalBytes: 20_000, history: 8 } })
  const all: string[] = []
  for (let version = 2; version < 60; version++) {
    const metadata = `version ${version} ${'x'.repeat(200)}`
    const plans = [disk('a', version, version), network('net'), disk('b', 2, 1)]
    await node.accept(deploymentOf(plans, { version, metadata }))
    all.push(`a@${version} ok`)
    assert.ok(statSync(fileOf(node)).size < 25_000, `${statSync(fileOf(node)).size} bytes`)
    const history = await node.history()
    assert.ok(history.length >= 8 || version < 10)
    const updates = history.filter((line) => /^a@([2-9]|..) /.test(line))
    assert.deepEqual(updates, all.slice(-updates.length))
  }
  const before = await known(node)
  await node.restart()
  await node.idle()
  assert.deepEqual(await known(node), before)
})

test('a full disk: nothing is accepted that is not kept, what was done is written later', async (t) => {
  const node = await testNode(t)
  const folder = join(node.folder, 'deployments', '42')
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  if (lacks(t, 'tmpfs', tmpfs(folder, 'size=64k'))) return
  try {
    await fullDisk(node, folder)
  } finally {
    await node.deployments.stop()
    unmount(folder)
  }
})

async function fullDisk(node: TestNode, folder: string): Promise<void> {
  await node.accept(deploymentOf(PLANS))
  const fill = () => {
    const path = join(folder, 'filler')
    for (const size of [4096, 512, 1]) {
      try {
        for (;;) appendFileSync(path, new Uint8Array(size))
      } catch {
        // It is full to the byte now.
      }
    }
  }
  fill()
  const other = deploymentOf(PLANS.slice(0, 1), { contractId: 11n })
  node.registry.agree(other)
  await assert.rejects(
    node.deployments.deploy(42, other),
    /^ZosError: failed to store the deployment: .*(ENOSPC|[Nn]o space)/,
  )
  // Until its page is full there may be room in the journal itself.
  let version = 1
  const next = () =>
    deploymentOf([disk('a', 1 + version, version), ...PLANS.slice(1)], {
      version,
      metadata: 'x'.repeat(3000),
    })
  for (; ; version++) {
    node.registry.agree(next())
    const failed = await node.deployments.update(42, next()).then(
      () => undefined,
      (error: Error) => error,
    )
    await node.idle()
    if (!failed) continue
    assert.match(failed.message, /^failed to store the deployment: .*(ENOSPC|[Nn]o space)/)
    break
  }
  assert.equal(node.deployments.get(42, 10n).deployment.version, version - 1)
  const before = await known(node)
  await node.restart()
  await node.idle()
  assert.deepEqual(await known(node), before)

  // A crash is noted as soon as there is room, and the machine is started again then.
  const started = node.calls.length
  let crashes = 0
  while (node.logged.every((line) => !line.includes('Cannot write the journal'))) {
    node.driver('zmachine').crash({ id: '42-10-vm', reason: 'y'.repeat(4000) })
    await new Promise((resolve) => setTimeout(resolve, 30))
    assert.ok(++crashes < 4, 'the disk is not full')
  }
  rmSync(join(folder, 'filler'))
  await node.until(() => node.logged.some((line) => line.includes('can be written again')), 'write')
  await node.idle()
  assert.equal(node.states()[1], 'vm ok')
  assert.ok(node.calls.length > started)
  await node.accept(other)
  // The end of a contract makes room even where there is none to say so.
  fill()
  node.registry.set(11n, 'deleted')
  await node.deployments.sync()
  await node.idle()
  assert.equal(node.deployments.list().length, 1)
}
