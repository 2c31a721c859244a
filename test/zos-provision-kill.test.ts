/** SIGKILL before and after each write of the journal and each change of a driver (row E3). */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { test } from 'node:test'
import { runtime } from '../src/runtime.ts'
import { inTime, type TestNode } from './helpers/zos-provision.ts'
import { live, readNotes, STORY, setContract, storyNode } from './helpers/zos-provision-story.ts'

/** Elsewhere than on Node a part of them is enough: the steps are the same. */
const STRIDE = runtime === 'node' ? 1 : 9

/** Nodes that run at the same time. */
const AT_ONCE = 3

test('a node killed at any step goes on where it was', { timeout: 600_000 }, async () => {
  const steps = Number(await inFolder((folder) => child(folder, 0)))
  assert.ok(steps > 100, `the story has ${steps} steps`)
  let next = 1
  const killer = async () => {
    for (let step = next; step <= steps; step = next) {
      next += STRIDE
      await inFolder(async (folder) => {
        await child(folder, step)
        await goesOn(folder).catch((error) => {
          throw new Error(`after step ${step} of ${steps}: ${error.message}`, { cause: error })
        })
      })
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, killer))
})

/** What must be true after a kill, whenever it was. */
async function goesOn(folder: string): Promise<void> {
  const { began = 'deploy', acknowledged, history } = readNotes(folder)
  const node = storyNode(folder)
  try {
    setContract(node, began)
    await node.deployments.start()
    await node.idle()
    const there = node.deployments.list().length === 1
    if (began === 'end') assert.ok(!there, 'it is over')
    else {
      if (acknowledged.includes('deploy')) assert.ok(there, 'what was acknowledged is there')
      if (there) await consistent(node, history)
      const version = there ? node.deployments.get(42, 10n).deployment.version : 0
      if (acknowledged.includes('update')) assert.equal(version, 1)
    }
    for (const chapter of STORY.slice(STORY.indexOf(began))) {
      const exists = node.deployments.list().length === 1
      if (chapter === 'deploy' && exists) continue
      if (chapter === 'update' && node.deployments.get(42, 10n).deployment.version === 1) continue
      if (chapter === 'end' && !exists) continue
      await live(node, chapter)
      await node.idle()
      if (chapter !== 'end') await consistent(node, history)
    }
    assert.deepEqual([...node.world], [], 'nothing is left behind')
    assert.deepEqual(readdirSync(join(folder, 'deployments')), [])
  } finally {
    await node.deployments.stop()
  }
}

async function consistent(node: TestNode, seen: readonly string[]): Promise<void> {
  const { deployment, results } = node.deployments.get(42, 10n)
  const paused = (node.registry.contracts.get(10n)?.state ?? '') === 'grace_period'
  const running = deployment.workloads.map(({ name, rawData }) => [
    `42-10-${name}`,
    { data: rawData, paused },
  ])
  const inOrder = (list: unknown[]) => list.map((item) => JSON.stringify(item)).sort()
  assert.deepEqual(inOrder([...node.world]), inOrder(running))
  assert.deepEqual(
    results.map(({ state }) => state),
    results.map(() => (paused ? 'paused' : 'ok')),
  )
  assert.ok(deployment.workloads.some(({ name }) => name === 'new') === (deployment.version === 1))
  const history = await node.history()
  assert.deepEqual(history.slice(0, seen.length), seen, 'the history only grows')
  const last = new Map(history.map((line) => line.split('@')).map(([name, rest]) => [name, rest]))
  for (const [i, { name, version }] of deployment.workloads.entries()) {
    const { state, message } = results[i] ?? {}
    assert.equal(last.get(name), `${version} ${state} ${message}`.trim(), 'get is the last entry')
  }
}

async function inFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-zos-kill-'))
  try {
    return await work(folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** @returns What it printed. */
async function child(folder: string, step: number): Promise<string> {
  const flags = {
    node: ['--import', 'tsx'],
    bun: ['--no-install'],
    deno: ['run', '-A', '--no-check', '--quiet'],
  }[runtime]
  const script = resolve('test/helpers/zos-provision-child.ts')
  const process_ = spawn(process.execPath, [...flags, script, folder, String(step)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let printed = ''
  process_.stdout.on('data', (data) => {
    printed += data
  })
  const ended = new Promise<NodeJS.Signals | number | null>((done) =>
    process_.once('close', (code, signal) => done(signal ?? code)),
  )
  try {
    assert.equal(await inTime(ended, 'end', 60_000), step === 0 ? 0 : 'SIGKILL')
  } finally {
    process_.kill('SIGKILL')
  }
  return printed
}
