import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { DriverError } from '../plugins/zos/drivers/driver.ts'
import { createStorageDrivers } from '../plugins/zos/drivers/storage/index.ts'
import { createPool } from '../plugins/zos/drivers/storage/pool.ts'
import { createVolumeDriver } from '../plugins/zos/drivers/storage/volume.ts'
import { createVolumeKeeper } from '../plugins/zos/drivers/storage/volume-keeper.ts'
import { createZmountDriver } from '../plugins/zos/drivers/storage/zmount.ts'
import { ToolError } from '../plugins/zos/drivers/tools.ts'
import { freshFolder } from './helpers/daemon.ts'
import { vectors } from './helpers/vectors.ts'
import { deploymentOf, resultIn, taskOf, workloadOf } from './helpers/zos-storage-task.ts'

const MIB = 1024n * 1024n
const signal = new AbortController().signal

function dataDir(t: TestContext): string {
  const folder = freshFolder()
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return join(folder, 'data')
}

/** Plain files and folders, whatever this machine can do. */
function plain(t: TestContext, useFolders = false) {
  const folder = dataDir(t)
  const warnings: string[] = []
  const warn = (text: string) => void warnings.push(text)
  const drivers = createStorageDrivers({ dataDir: folder, useFolders, mounting: 'folder', warn })
  return { folder, warnings, ...drivers }
}

const disk = (size: bigint, name = 'disk') => workloadOf('zmount', name, { size })
const volume = (size: bigint, name = 'vol') => workloadOf('volume', name, { size })

const driverError = (kind: DriverError['kind'], message: string | RegExp, data?: unknown) => {
  return (error: Error) => {
    assert.equal(error.name, 'DriverError', String(error.stack))
    const { kind: own, data: given } = error as DriverError
    assert.equal(own, kind, error.message)
    if (typeof message === 'string') assert.equal(error.message, message)
    else assert.match(error.message, message)
    if (data !== undefined) assert.deepEqual(given, data)
    return true
  }
}

test('a disk is a sparse file of its owner, and is gone in the end', async (t) => {
  const { folder, zmount } = plain(t)
  assert.deepEqual(await zmount.probe(signal), { able: true })
  const task = taskOf(disk(64n * MIB))
  assert.deepEqual(await zmount.provision(task), { volume_id: task.id })
  const path = join(folder, 'vdisks', task.id)
  const { size, mode, blocks } = statSync(path)
  assert.equal(BigInt(size), 64n * MIB)
  assert.equal(mode & 0o7777, 0o600)
  assert.equal(blocks, 0, 'it takes no room yet')
  assert.equal(statSync(folder).mode & 0o777, 0o700)

  // Again, as after a restart: nothing of it is touched.
  writeFileSync(path, 'content', { flag: 'r+' })
  await zmount.provision(task)
  assert.equal(readFileSync(path).subarray(0, 7).toString(), 'content')
  const checks = await zmount.health?.(task)
  assert.deepEqual(
    checks?.map(({ name, ok }) => [name, ok]),
    [['disk', true]],
  )

  await zmount.deprovision(task)
  assert.deepEqual(readdirSync(join(folder, 'vdisks')), [])
  await zmount.deprovision(task)
  assert.equal((await zmount.health?.(task))?.[0]?.ok, false)
})

test('a disk grows, and no more', async (t) => {
  const { folder, zmount } = plain(t)
  const before = taskOf(disk(4n * MIB))
  await zmount.provision(before)
  const path = join(folder, 'vdisks', before.id)
  writeFileSync(path, 'content', { flag: 'r+' })
  const update = (size: bigint, more = {}) =>
    zmount.update?.({ ...taskOf(disk(size), more), previous: { size: 4n * MIB } })

  await assert.rejects(async () => update(4n * MIB), driverError('no-action', /size/))
  await assert.rejects(
    async () => update(3n * MIB),
    driverError('unchanged', 'not safe to shrink a disk', { volume_id: '' }),
  )
  assert.equal(BigInt(statSync(path).size), 4n * MIB)
  assert.deepEqual(await update(5n * MIB), { volume_id: before.id })
  assert.equal(BigInt(statSync(path).size), 5n * MIB)
  assert.equal(readFileSync(path).subarray(0, 7).toString(), 'content')
  // Once more, as after a crash before the result was kept.
  assert.deepEqual(await update(5n * MIB), { volume_id: before.id })

  await zmount.deprovision(before)
  await assert.rejects(async () => update(6n * MIB), driverError('unchanged', 'the disk is gone'))
})

test('a disk that a machine has does not grow', async (t) => {
  const { zmount } = plain(t)
  await zmount.provision(taskOf(disk(MIB)))
  const machine = (name: string, mount: string) =>
    workloadOf('zmachine-light', name, {
      flist: '',
      network: { mycelium: undefined, interfaces: [] },
      size: 0n,
      cpu: 1,
      memory: 0n,
      mounts: [{ name: mount, mountpoint: '/data' }],
      entrypoint: '',
      env: new Map(),
      corex: false,
      gpu: [],
    })
  const grown = disk(2n * MIB)
  const update = (mount: string, state: 'ok' | 'paused' | 'error' | 'deleted') =>
    zmount.update?.({
      ...taskOf(grown, {
        deployment: deploymentOf([grown, machine('vm', mount)]),
        resultOf: (name) => (name === 'vm' ? resultIn(state) : undefined),
      }),
      previous: { size: MIB },
    })
  const refused = driverError('unchanged', 'disk is mounted, please delete the VM first')
  await assert.rejects(async () => update('disk', 'ok'), refused)
  await assert.rejects(async () => update('disk', 'paused'), refused)
  assert.ok(await update('other', 'ok'))
  assert.ok(await update('disk', 'error'))
})

test('disks that do not fit are refused, also when the others are still empty', async (t) => {
  const folder = dataDir(t)
  const freeBytes = async () => 10n * MIB
  const pool = createPool({ dataDir: folder, freeBytes })
  const mounter = createMounterOfNothing()
  const zmount = createZmountDriver({ pool, useFolders: false, mounter })
  const text = 'not enough space left in pools of this type ssd'
  const full = (task: { id: string }) => driverError('failed', text, { volume_id: task.id })
  const [a, b, c] = ['a', 'b', 'c'].map((name) => taskOf(disk(6n * MIB, name)))
  assert.ok(a && b && c)

  const huge = taskOf(disk(2n ** 63n, 'huge'))
  await assert.rejects(zmount.provision(huge), full(huge))
  // At the same time: only one of them has room, whichever comes first.
  const ended = await Promise.allSettled([zmount.provision(a), zmount.provision(b)])
  const [first, second] = ended[0]?.status === 'fulfilled' ? [a, b] : [b, a]
  assert.deepEqual(ended.map(({ status }) => status).sort(), ['fulfilled', 'rejected'])
  await assert.rejects(zmount.provision(c), full(c))
  assert.equal(await pool.free(), 4n * MIB)

  const grow = (size: bigint) =>
    zmount.update?.({ ...taskOf(disk(size, first.workload.name)), previous: { size: 6n * MIB } })
  await assert.rejects(async () => grow(11n * MIB), driverError('unchanged', text))
  assert.ok(await grow(10n * MIB))
  await zmount.deprovision(first)
  assert.ok(await zmount.provision(second))

  const generous = createPool({ dataDir: folder, freeBytes, overcommit: true })
  const more = createZmountDriver({ pool: generous, useFolders: false, mounter })
  assert.ok(await more.provision(taskOf(disk(50n * MIB, 'more'))))
  await assert.rejects(more.provision(huge), full(huge))
})

function createMounterOfNothing() {
  return {
    probe: async () => undefined,
    attach: async () => undefined,
    detach: async () => undefined,
    attached: async () => true,
  }
}

test('an interrupted creation or growth is finished', async (t) => {
  const { folder, zmount } = plain(t)
  const task = taskOf(disk(2n * MIB))
  mkdirSync(join(folder, 'vdisks'), { recursive: true })
  writeFileSync(join(folder, 'vdisks', '.cvmd-0123456789ab.x'), '')
  await zmount.provision(task)
  truncateSync(join(folder, 'vdisks', task.id), 100)
  await zmount.provision(task)
  assert.equal(BigInt(statSync(join(folder, 'vdisks', task.id)).size), 2n * MIB)
  await zmount.sweep?.(new Set([task.id]), signal)
  assert.deepEqual(readdirSync(join(folder, 'vdisks')), [task.id], 'the temporary file is gone')
})

test('where containers run, a folder stands for a disk that cannot be mounted', async (t) => {
  const { folder, zmount } = plain(t, true)
  const probed = await zmount.probe(signal)
  assert.deepEqual(probed, {
    able: true,
    warning: 'The size of disks is not enforced: plain folders are configured',
  })
  const task = taskOf(disk(4n * MIB))
  await zmount.provision(task)
  const files = join(folder, 'mounts', task.id)
  assert.equal(statSync(files).mode & 0o777, 0o755)
  writeFileSync(join(files, 'kept'), 'x')
  await zmount.provision(task)
  assert.ok(existsSync(join(files, 'kept')))
  assert.ok((await zmount.health?.(task))?.every(({ ok }) => ok))
  await zmount.deprovision(task)
  assert.deepEqual(readdirSync(join(folder, 'mounts')), [])
  assert.deepEqual(readdirSync(join(folder, 'vdisks')), [])
})

test('a disk whose files are inside is not shown as an empty folder', async (t) => {
  const { folder, zmount } = plain(t, true)
  const task = taskOf(disk(4n * MIB))
  mkdirSync(join(folder, 'vdisks'), { recursive: true })
  const bytes = new Uint8Array(Number(4n * MIB))
  bytes.set([0x53, 0xef], 1080)
  writeFileSync(join(folder, 'vdisks', task.id), bytes)
  await assert.rejects(zmount.provision(task), driverError('transient', /its files are inside/))
  assert.ok(!existsSync(join(folder, 'mounts', task.id)))
})

test('links are not followed, and no other name becomes a path', async (t) => {
  const { folder, zmount, volume: volumes } = plain(t)
  const task = taskOf(disk(MIB))
  const outside = join(folder, '..', 'outside')
  mkdirSync(join(folder, 'vdisks'), { recursive: true })
  mkdirSync(join(folder, 'volumes'), { recursive: true })
  mkdirSync(outside)
  writeFileSync(join(outside, 'file'), 'mine')
  symlinkSync(join(outside, 'file'), join(folder, 'vdisks', task.id))
  await assert.rejects(zmount.provision(task), driverError('failed', /is no file, remove it/))
  const kept = taskOf(volume(MIB))
  symlinkSync(outside, join(folder, 'volumes', kept.id))
  await assert.rejects(volumes.provision(kept), driverError('failed', /is no folder, remove it/))
  await assert.rejects(volumes.deprovision(kept), driverError('failed', /is no folder/))
  assert.equal(readFileSync(join(outside, 'file'), 'utf8'), 'mine')
  for (const id of ['../x', '1-2-', '1-2-a/b', '1-2-..', '', '-1-2-a', '1-2-a\0']) {
    await assert.rejects(zmount.provision({ ...task, id }), /no workload id/, id)
  }
})

test('a volume is a folder that grows and is removed with what links lead to left alone', async (t) => {
  const { folder, volume: volumes } = plain(t)
  const probed = await volumes.probe(signal)
  assert.ok(probed.able)
  const task = taskOf(volume(MIB))
  assert.deepEqual(await volumes.provision(task), { id: task.id })
  const path = join(folder, 'volumes', task.id)
  assert.equal(statSync(path).mode & 0o777, 0o755)
  const outside = join(folder, '..', 'outside')
  mkdirSync(outside)
  writeFileSync(join(outside, 'file'), 'mine')
  symlinkSync(outside, join(path, 'link'))
  // Deeper than any path may be long.
  execFileSync('sh', [
    '-c',
    'cd "$0"; i=0; n=$(printf %0200d 0); while [ $i -lt 30 ]; do mkdir $n; cd -P $n; i=$((i+1)); done',
    path,
  ])

  await volumes.provision(task)
  assert.ok(existsSync(join(path, 'link')))
  const update = (size: bigint) =>
    volumes.update?.({ ...taskOf(volume(size)), previous: { size: MIB } })
  assert.deepEqual(await update(2n * MIB), { id: task.id })
  assert.deepEqual(await update(MIB), { id: task.id })
  const shrink = `cannot shrink volume to be less than provisioned space. old: ${MIB}, requested: 1`
  await assert.rejects(async () => update(1n), driverError('failed', shrink))
  assert.equal((await volumes.health?.(task))?.[0]?.ok, true)

  await volumes.deprovision(task)
  assert.ok(!existsSync(path))
  assert.equal(readFileSync(join(outside, 'file'), 'utf8'), 'mine')
  await volumes.deprovision(task)
  await assert.rejects(async () => update(2n * MIB), driverError('failed', 'the volume is gone'))
})

test('a volume that does not fit is refused', async (t) => {
  const folder = dataDir(t)
  const pool = createPool({ dataDir: folder, freeBytes: async () => 10n * MIB })
  const keeper = createVolumeKeeper(async () => {
    throw new ToolError('"btrfs" is not installed', undefined)
  }, folder)
  const volumes = createVolumeDriver({ pool, keeper })
  const text = 'not enough space left in pools of this type ssd'
  await assert.rejects(volumes.provision(taskOf(volume(11n * MIB))), driverError('failed', text))
  assert.ok(await volumes.provision(taskOf(volume(10n * MIB))))
})

test('what belongs to no deployment is removed, unless there is none at all', async (t) => {
  const { folder, zmount, volume: volumes, warnings } = plain(t, true)
  const [kept, gone] = [taskOf(disk(MIB, 'kept')), taskOf(disk(MIB, 'gone'))]
  const [keptVolume, goneVolume] = [taskOf(volume(MIB, 'v1')), taskOf(volume(MIB, 'v2'))]
  for (const task of [kept, gone]) await zmount.provision(task)
  for (const task of [keptVolume, goneVolume]) await volumes.provision(task)
  const own = join(folder, 'volumes', 'lost+found')
  mkdirSync(own)

  await zmount.sweep?.(new Set(), signal)
  await volumes.sweep?.(new Set(), signal)
  assert.equal(readdirSync(join(folder, 'vdisks')).length, 2)
  assert.deepEqual(warnings.length, 2)
  assert.match(warnings[0] ?? '', /^Left 2 disks or volumes in ".*" that belong to no deployment/)

  const wanted = new Set([kept.id, keptVolume.id])
  await zmount.sweep?.(wanted, signal)
  await volumes.sweep?.(wanted, signal)
  assert.deepEqual(readdirSync(join(folder, 'vdisks')), [kept.id])
  assert.deepEqual(readdirSync(join(folder, 'mounts')), [kept.id])
  assert.deepEqual(readdirSync(join(folder, 'volumes')).sort(), [keptVolume.id, 'lost+found'])
})

test('a folder that cannot be used is told by the probe', async (t) => {
  const folder = freshFolder()
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  writeFileSync(join(folder, 'file'), '')
  const { zmount, volume: volumes } = createStorageDrivers({
    dataDir: join(folder, 'file', 'data'),
    useFolders: false,
  })
  for (const driver of [zmount, volumes]) {
    const probed = await driver.probe(signal)
    assert.ok(!probed.able)
    assert.match(probed.reason, /^Cannot keep (disks|volumes) in ".*": .*ENOTDIR/)
  }
})

test('results and refusals are those of the shared vectors', async (t) => {
  const shared = vectors('zos')
  if (shared === undefined) return t.skip('no shared vectors here')
  const steps = JSON.parse(readFileSync(join(shared, 'changes.json'), 'utf8'))
  type Entry = { readonly result: { readonly message: string; readonly data: unknown } }
  const entries: Entry[] = steps.flatMap(
    ({ changes }: { changes: Entry[] | null }) => changes ?? [],
  )
  const known = new Map<string, unknown>()
  for (const { result } of entries) {
    if (result.message !== '') known.set(result.message, result.data)
  }
  const { zmount } = plain(t)
  await zmount.provision(taskOf(disk(2n * MIB)))
  const refused = await Promise.resolve(
    zmount.update?.({ ...taskOf(disk(MIB)), previous: { size: 2n * MIB } }),
  ).catch((error: DriverError) => error)
  assert.ok(refused instanceof DriverError)
  assert.ok(known.has(refused.message), refused.message)
  assert.deepEqual(refused.data, known.get(refused.message))
  assert.ok(known.has('not enough space left in pools of this type ssd'))
})
