import assert from 'node:assert/strict'
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import * as v from 'valibot'
import { EngineState } from '../../plugins/supervisor/engine-state/engine-state.ts'
import { knownVolume, ownerOf } from '../../plugins/supervisor/engine-state/objects.ts'
import { parseDocument } from '../../plugins/supervisor/store/document.ts'
import { Memory } from '../../plugins/supervisor/store/memory.ts'
import { freshFolder } from '../helpers/daemon.ts'
import { err, FakeEngine } from './supervisor-apply-fake.ts'

test('what is remembered outlives the process, in one file for us alone', async () => {
  const folder = freshFolder()
  const damaged: string[] = []
  const open = async () => {
    const memory = new Memory({ folder, onDamaged: (message) => damaged.push(message) })
    await memory.open()
    return memory
  }
  const first = await open()
  await Promise.all([
    first.setHalt('1/api', { by: 'user', hash: 'h' }),
    first.setFailedUpdate('1/api', 'h2'),
    first.setCommit(1, 'c1'),
    first.ownImage('registry.test/api:1'),
    first.setRestartPolicy('box', 'always'),
  ])
  const path = join(folder, 'memory.json')
  assert.equal(statSync(path).mode & 0o777, 0o600)
  const second = await open()
  assert.deepEqual([...second.halts], [['1/api', { by: 'user', hash: 'h' }]])
  assert.deepEqual([...second.failedUpdates], [['1/api', 'h2']])
  assert.deepEqual([...second.commits], [[1, 'c1']])
  assert.deepEqual([...second.images], ['registry.test/api:1'])
  await second.retain(new Set(), new Set())
  const third = await open()
  assert.equal(third.halts.size + third.failedUpdates.size + third.restartPolicies.size, 0)
  assert.equal(third.commits.size, 1)
  writeFileSync(path, '{"version":2}')
  const fourth = await open()
  assert.equal(fourth.commits.size, 0)
  assert.match(damaged[0] ?? '', /memory\.json" is unusable, moved to/)
  const aside = readdirSync(folder).find((name) => name.startsWith('memory.json.damaged-'))
  assert.equal(readFileSync(join(folder, aside ?? ''), 'utf8'), '{"version":2}')
})

test('a change that cannot be stored is not made', async () => {
  const memory = new Memory({ folder: join(freshFolder(), 'missing'), onDamaged: () => {} })
  await memory.open()
  await assert.rejects(memory.setCommit(1, 'c1'), { code: 'STATE_NOT_STORED' })
  assert.equal(memory.commits.size, 0)
})

test('any text is a document or a SyntaxError', () => {
  const Schema = v.strictObject({ version: v.literal(1), secret: v.optional(v.string()) })
  const Text = fc.oneof(
    fc.string(),
    fc.json(),
    fc.record({ version: fc.anything(), secret: fc.anything() }).map((one) => {
      return JSON.stringify(one) ?? ''
    }),
  )
  fc.assert(
    fc.property(Text, (text) => {
      try {
        assert.equal(parseDocument(text, Schema).version, 1)
      } catch (error) {
        assert.ok(error instanceof SyntaxError)
      }
    }),
  )
})

test('labels of strangers never make an object ours', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.string()), fc.string(), (labels, Name) => {
      assert.equal(ownerOf(labels), undefined)
      const volume = {
        Name,
        Labels: labels,
        Driver: '',
        Mountpoint: '',
        Options: {},
        CreatedAt: '',
      }
      assert.equal(knownVolume(volume), undefined)
    }),
  )
  const supervised = { 'io.balena.supervised': 'true', 'io.balena.service-name': 'api' }
  assert.equal(ownerOf({ ...supervised, 'io.balena.app-id': '1e3' }), undefined)
  assert.equal(ownerOf({ ...supervised, 'io.balena.app-id': '12345678901234567' }), undefined)
  assert.deepEqual(ownerOf({ ...supervised, 'io.balena.app-id': '12' }), {
    appId: 12,
    serviceName: 'api',
  })
  // A name that can be no folder and has no key.
  for (const name of ['', '../x', 'bad name!', '-x', 'x'.repeat(256), 'a|b']) {
    const labels = { ...supervised, 'io.balena.app-id': '12', 'io.balena.service-name': name }
    assert.equal(ownerOf(labels), undefined, name)
  }
})

test('lists that fail are asked for again, and events meanwhile are not lost', async (t) => {
  const fake = new FakeEngine()
  let failures = 1
  fake.before = (call) => {
    if (call === 'volumes.list' && failures-- > 0) throw err('TIMEOUT')
  }
  const abort = new AbortController()
  t.after(() => abort.abort())
  let wake = () => {}
  const state = new EngineState({ engine: fake.engine(), onChange: () => wake() })
  state.start(abort.signal)
  assert.equal(state.connected, false)
  while (!state.connected) {
    await new Promise<void>((resolve) => {
      wake = resolve
    })
  }
  fake.foreign('web')
  while (!state.objects(new Set()).taken.containers.has('web')) {
    await new Promise<void>((resolve) => {
      wake = resolve
    })
  }
  assert.equal(fake.calls.filter((call) => call === 'containers.list').length, 2)
})
