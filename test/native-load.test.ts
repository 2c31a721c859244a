import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { test } from 'node:test'
import { addonFile, loadAddon, loadNative } from '../src/device/native.ts'
import { loadFromMemory } from '../src/device/native-image.ts'
import { runtime } from '../src/runtime.ts'
import { lacks } from './helpers/counterpart.ts'
import { freshFolder } from './helpers/daemon.ts'
import { buildAddon, tmpfs, unmount } from './native/test-addon.ts'

const WORKS = { kind: 'native', meminfo: 'file' }

test('the addon is found, loaded once, and works', async (t) => {
  if (lacks(t, 'cc')) return
  assert.equal(addonFile(), resolve('dist/device.node'))
  buildAddon([])
  const native = loadNative()
  assert.ok('transport' in native, JSON.stringify(native))
  assert.equal(loadNative(), native)
  assert.equal(await native.transport.stat('/proc/meminfo'), 'file')
  await assert.rejects(native.transport.read('/etc/hostname', 100), { code: 'EACCES' })
})

test('an addon that is missing or broken gives a reason and a remedy', () => {
  const folder = freshFolder()
  const missing = join(folder, 'device.node')
  assert.deepEqual(loadAddon(missing), {
    reason: `${missing} does not exist`,
    remedy: 'install a C compiler and run "npm run build"',
  })
  writeFileSync(missing, 'not an addon')
  const broken = loadAddon(missing)
  assert.ok('reason' in broken)
  assert.match(broken.reason, /device\.node cannot be loaded: /)
  assert.match(broken.remedy, /node scripts\/native\.mjs/)
  rmSync(folder, { recursive: true })
})

test('an image is loaded from the first folder that lets it, and is gone afterwards', (t) => {
  const folder = freshFolder()
  const noexec = join(folder, 'noexec')
  mkdirSync(noexec)
  const before = process.env.TMPDIR
  t.after(() => {
    if (before === undefined) delete process.env.TMPDIR
    else process.env.TMPDIR = before
    unmount(noexec)
    rmSync(folder, { recursive: true })
  })
  if (lacks(t, 'cc') || lacks(t, 'tmpfs', tmpfs(noexec, 'noexec'))) return
  buildAddon(['--out', join(noexec, 'image')])
  process.env.TMPDIR = noexec
  assert.equal(tmpdir(), noexec)
  const tried: string[] = []
  const load = (file: string) => {
    tried.push(file)
    const module = { exports: {} }
    process.dlopen(module, file)
    return module.exports
  }
  assert.ok('tdreport' in loadFromMemory(readFileSync(join(noexec, 'image')), load))
  if (runtime === 'bun') assert.match(tried[0] ?? '', /^\/proc\/self\/fd\/\d+$/)
  else
    assert.deepEqual(
      tried.map((file) => file.split('/')[1]),
      [noexec.split('/')[1], 'var'],
    )
  assert.deepEqual(readdirSync(noexec), ['image'])
  assert.equal(
    readdirSync('/var/tmp').some((name) => name.startsWith('cvmd-device-')),
    false,
  )
  const refused = () => {
    throw new Error('refused')
  }
  assert.throws(
    () => loadFromMemory(new Uint8Array(1), refused),
    /\/var\/tmp: refused; \/dev\/shm: /,
  )
})

/** Runs test/native/show-native.ts, or a program made of it, and gives what it prints. */
function show(command: string, args: readonly string[], env: Record<string, string> = {}): unknown {
  const { stdout, stderr } = spawnSync(command, args, {
    encoding: 'utf8',
    env: { ...process.env, ...env },
  })
  try {
    return JSON.parse(stdout)
  } catch {
    throw new Error(`${stdout}${stderr}`)
  }
}

if (runtime === 'deno') {
  test('Deno needs one permission for it, and says so', (t) => {
    if (lacks(t, 'cc')) return
    buildAddon([])
    const run = (...flags: string[]) =>
      show(process.execPath, [
        ...['run', '--no-check', '--no-prompt', '--quiet', '--allow-env', ...flags],
        'test/native/show-native.ts',
      ])
    assert.deepEqual(run(`--allow-ffi=${addonFile()}`), WORKS)
    for (const flags of [[], ['--allow-read'], ['--allow-ffi=/elsewhere/device.node']]) {
      assert.deepEqual(run(...flags), {
        reason: `the runtime refuses to load ${addonFile()}`,
        remedy: `start with --allow-ffi=${addonFile()}`,
      })
    }
  })
}

if (runtime === 'node') {
  test('the single file loads its addon where nothing may be executed or written', (t) => {
    const folder = freshFolder()
    const noexec = join(folder, 'noexec')
    mkdirSync(noexec)
    t.after(() => {
      unmount(noexec)
      rmSync(folder, { recursive: true })
    })
    if (lacks(t, 'cc') || lacks(t, 'tmpfs', tmpfs(noexec, 'noexec'))) return
    const addon = join(folder, 'device.node')
    buildAddon(['--out', addon])
    const compile = (out: string, ...more: string[]) => {
      const args = ['build', '--compile', '--minify', '--bytecode', '--format=esm']
      args.push('test/native/show-native.ts', ...more, '--outfile', join(folder, out))
      const { status, stderr } = spawnSync('node_modules/.bin/bun', args, { encoding: 'utf8' })
      assert.equal(status, 0, stderr)
      return join(folder, out)
    }
    const program = compile('with', addon)
    rmSync(addon)
    assert.deepEqual(show(program, [], { TMPDIR: noexec }), WORKS)
    assert.deepEqual(show(program, [], { TMPDIR: '/proc' }), WORKS)
    assert.deepEqual(readdirSync(noexec), [])
    assert.deepEqual(show(compile('without'), []), {
      reason: '/$bunfs/root/device.node does not exist',
      remedy: 'install a C compiler and run "npm run build"',
    })
  })
}
