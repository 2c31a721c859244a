import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { createStorageDrivers } from '../plugins/zos/drivers/storage/index.ts'
import { LoopMounts } from '../plugins/zos/drivers/storage/loop-mounts.ts'
import { createMounter } from '../plugins/zos/drivers/storage/mounter.ts'
import { runTool } from '../plugins/zos/drivers/tools.ts'
import { installed, lacks } from './helpers/counterpart.ts'
import { freshFolder } from './helpers/daemon.ts'
import { taskOf, workloadOf } from './helpers/zos-storage-task.ts'

const MIB = 1024n * 1024n
const signal = new AbortController().signal

const run = (program: string, ...args: string[]) =>
  execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })

/** Whether this machine lets a test mount a file; tried with the plain programs. */
function canMount(mkfs: string): boolean {
  if (process.getuid?.() !== 0 || !installed(mkfs) || !installed('losetup')) return false
  const folder = freshFolder()
  try {
    writeFileSync(join(folder, 'disk'), '')
    truncateSync(join(folder, 'disk'), 128 * 1024 * 1024)
    mkdirSync(join(folder, 'at'))
    run(mkfs, '-q', join(folder, 'disk'))
    run('mount', '-o', 'loop', join(folder, 'disk'), join(folder, 'at'))
    run('umount', join(folder, 'at'))
    return true
  } catch {
    return false
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** A folder whose mounts, however a test ends, are taken away. */
function mountedFolder(t: TestContext): string {
  const folder = freshFolder()
  t.after(() => {
    const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n')
    const own = mounts.map((line) => line.split(' ')[1] ?? '').filter((at) => at.startsWith(folder))
    for (const at of own.sort().reverse()) run('umount', at)
    rmSync(folder, { recursive: true, force: true })
  })
  return folder
}

const disk = (size: bigint) => workloadOf('zmount', 'disk', { size })
const volume = (size: bigint) => workloadOf('volume', 'vol', { size })
const isMounted = (at: string) => readFileSync('/proc/self/mounts', 'utf8').includes(` ${at} `)
const loopsOf = (file: string) => run('losetup', '--associated', file).trim()

test('a disk of a container is a file system of its size', async (t) => {
  if (lacks(t, 'loop-mounts', canMount('mkfs.ext4'))) return
  const folder = join(mountedFolder(t), 'data')
  const options = { dataDir: folder, useFolders: true }
  const { zmount } = createStorageDrivers(options)
  assert.deepEqual(await zmount.probe(signal), { able: true })
  assert.deepEqual(readdirSync(folder).sort(), ['mounts', 'vdisks'], 'the trial left nothing')
  const task = taskOf(disk(16n * MIB))
  await zmount.provision(task)
  const file = join(folder, 'vdisks', task.id)
  const files = join(folder, 'mounts', task.id)
  assert.ok(isMounted(files))
  assert.deepEqual(readdirSync(files), [], 'it is empty, as databases want it')
  assert.equal(statSync(files).mode & 0o777, 0o755)
  const before = statfsSync(files).blocks * statfsSync(files).bsize
  assert.ok(before <= 16 * 1024 * 1024)
  const full = () => writeFileSync(join(files, 'large'), new Uint8Array(17 * 1024 * 1024))
  assert.throws(full, /ENOSPC/)
  rmSync(join(files, 'large'))
  writeFileSync(join(files, 'kept'), 'content')
  const mount = readFileSync('/proc/self/mounts', 'utf8')
  assert.match(mount.split('\n').find((line) => line.includes(files)) ?? '', /nosuid,nodev/)

  // While it is mounted, after a reboot, and by a daemon that starts anew.
  await zmount.provision(task)
  run('umount', files)
  const next = createStorageDrivers(options).zmount
  assert.deepEqual(
    (await next.health?.(task))?.map(({ ok }) => ok),
    [true, false],
  )
  await next.provision(task)
  assert.equal(readFileSync(join(files, 'kept'), 'utf8'), 'content')
  assert.ok((await next.health?.(task))?.every(({ ok }) => ok))

  const update = { ...taskOf(disk(48n * MIB)), previous: { size: 16n * MIB } }
  await next.update?.(update)
  assert.equal(readFileSync(join(files, 'kept'), 'utf8'), 'content')
  writeFileSync(join(files, 'large'), new Uint8Array(20 * 1024 * 1024))
  // The file grew, then the daemon was killed.
  truncateSync(file, 80 * 1024 * 1024)
  await next.provision(task)
  assert.ok(statfsSync(files).blocks * statfsSync(files).bsize > 64 * 1024 * 1024)

  await next.deprovision(task)
  assert.ok(!isMounted(files))
  assert.deepEqual(
    [readdirSync(join(folder, 'mounts')), readdirSync(join(folder, 'vdisks'))],
    [[], []],
  )
  assert.equal(loopsOf(file), '')
  await next.deprovision(task)
})

test('files from before disks could be mounted stay in sight', async (t) => {
  if (lacks(t, 'loop-mounts', canMount('mkfs.ext4'))) return
  const dataDir = join(mountedFolder(t), 'data')
  const plain = createStorageDrivers({ dataDir, useFolders: true, mounting: 'folder' }).zmount
  const task = taskOf(disk(16n * MIB))
  await plain.provision(task)
  const files = join(dataDir, 'mounts', task.id)
  writeFileSync(join(files, 'kept'), 'content')
  const able = createStorageDrivers({ dataDir, useFolders: true }).zmount
  await able.provision(task)
  assert.equal(readFileSync(join(files, 'kept'), 'utf8'), 'content')
  await able.deprovision(task)
  assert.ok(!existsSync(files))
})

test('a mount is taken away also by a daemon that would not mount', async (t) => {
  if (lacks(t, 'loop-mounts', canMount('mkfs.ext4'))) return
  const dataDir = join(mountedFolder(t), 'data')
  const task = taskOf(disk(16n * MIB))
  await createStorageDrivers({ dataDir, useFolders: true }).zmount.provision(task)
  const files = join(dataDir, 'mounts', task.id)
  assert.ok(isMounted(files))
  const plain = createStorageDrivers({ dataDir, useFolders: true, mounting: 'folder' }).zmount
  await plain.provision(task)
  assert.ok(isMounted(files), 'what is there stays')
  await createStorageDrivers({ dataDir, useFolders: false }).zmount.deprovision(task)
  assert.ok(!isMounted(files))
  assert.deepEqual(readdirSync(join(dataDir, 'mounts')), [])
})

test('a disk with something else on it is never formatted', async (t) => {
  if (lacks(t, 'loop-mounts', canMount('mkfs.ext4'))) return
  const dataDir = join(mountedFolder(t), 'data')
  const raw = createStorageDrivers({ dataDir, useFolders: false }).zmount
  const task = taskOf(disk(16n * MIB))
  await raw.provision(task)
  const file = join(dataDir, 'vdisks', task.id)
  writeFileSync(file, 'a partition table', { flag: 'r+' })
  const folders = createStorageDrivers({ dataDir, useFolders: true }).zmount
  await assert.rejects(folders.provision(task), /holds no file system known here/)
  assert.equal(readFileSync(file).subarray(0, 17).toString(), 'a partition table')
  const small = taskOf(workloadOf('zmount', 'small', { size: 100n }))
  await assert.rejects(
    folders.provision(small),
    /Cannot make a file system on disk .*: "mkfs\.ext4"/,
  )
})

test('btrfs is taken where there is no ext4', async (t) => {
  if (lacks(t, 'loop-mounts', canMount('mkfs.btrfs'))) return
  const dataDir = join(mountedFolder(t), 'data')
  const mounter = createMounter({
    dataDir,
    run: (argv, options) => runTool(argv[0] === 'mkfs.ext4' ? ['false', ...argv] : argv, options),
  })
  mkdirSync(dataDir)
  assert.equal(await mounter.probe(signal), undefined)
  const [file, folder] = [join(dataDir, 'disk'), join(dataDir, 'files')]
  writeFileSync(file, '')
  truncateSync(file, 64 * 1024 * 1024)
  await mounter.attach(file, folder)
  writeFileSync(join(folder, 'kept'), 'content')
  truncateSync(file, 128 * 1024 * 1024)
  await mounter.attach(file, folder)
  truncateSync(file, 300 * 1024 * 1024)
  await mounter.attach(file, folder)
  assert.ok(statfsSync(folder).blocks * statfsSync(folder).bsize > 280 * 1024 * 1024)
  assert.equal(readFileSync(join(folder, 'kept'), 'utf8'), 'content')
  await mounter.detach(folder)
  assert.ok(!existsSync(folder))
})

test('a host that cannot mount says why', async (t) => {
  const folder = mountedFolder(t)
  const why = await new LoopMounts(async (argv) => {
    if (argv[0] === 'readlink') return 'mnt:[1]\nmnt:[1]\n'
    throw new Error(`"${argv[0]}" is not installed`)
  }, folder).probe(signal)
  assert.match(why ?? '', /"mkfs\.ext4" is not installed/)
  const hidden = new LoopMounts(async () => 'mnt:[1]\nmnt:[2]\n', folder)
  assert.match((await hidden.probe(signal)) ?? '', /mount namespace of its own/)
  assert.deepEqual(readdirSync(folder), [])
})

test('a volume on btrfs holds its size and no more', async (t) => {
  if (lacks(t, 'btrfs', canMount('mkfs.btrfs') && installed('btrfs'))) return
  const folder = mountedFolder(t)
  const [image, dataDir] = [join(folder, 'image'), join(folder, 'data')]
  writeFileSync(image, '')
  truncateSync(image, 400 * 1024 * 1024)
  mkdirSync(dataDir)
  run('mkfs.btrfs', '-q', image)
  run('mount', '-o', 'loop', image, dataDir)

  const { volume: volumes, zmount } = createStorageDrivers({ dataDir, useFolders: false })
  assert.deepEqual(await volumes.probe(signal), { able: true })
  const task = taskOf(volume(16n * MIB))
  await volumes.provision(task)
  const path = join(dataDir, 'volumes', task.id)
  assert.equal(statSync(path).ino, 256, 'it is a subvolume')
  assert.equal(statSync(path).mode & 0o777, 0o755)
  const write = (name: string, mib: number) =>
    run('dd', 'if=/dev/urandom', `of=${join(path, name)}`, 'bs=1M', `count=${mib}`, 'conv=fsync')
  write('some', 8)
  assert.throws(() => write('more', 12), /quota exceeded/i)
  const [check] = (await volumes.health?.(task)) ?? []
  assert.match(check?.message ?? '', /and holds \d+ bytes$/)

  await volumes.update?.({ ...taskOf(volume(64n * MIB)), previous: { size: 16n * MIB } })
  write('more', 32)
  // What it may still take is no more to be had.
  const big = taskOf(disk(390n * MIB))
  await assert.rejects(zmount.provision(big), /^DriverError: not enough space left/)

  // A quota below what it holds, so that it is full. A machine may make subvolumes in it; nothing of them stays.
  run('btrfs', 'subvolume', 'create', join(path, 'inner'))
  writeFileSync(join(path, 'inner', 'file'), 'x')
  const next = createStorageDrivers({ dataDir, useFolders: false }).volume
  await next.provision(task)
  await next.deprovision(task)
  assert.deepEqual(readdirSync(join(dataDir, 'volumes')), [])
  assert.equal(run('btrfs', 'subvolume', 'list', dataDir).trim(), '')
  await next.deprovision(task)
})
