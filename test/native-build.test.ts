import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { type TestContext, test } from 'node:test'
import { runtime } from '../src/runtime.ts'
import { installed, lacks } from './helpers/counterpart.ts'
import { freshFolder } from './helpers/daemon.ts'
import { buildAddon, machineTree, TSM } from './native/test-addon.ts'

/** Runs a program to its end and gives its output; fails when it does. */
function run(command: string, args: readonly string[], env: Record<string, string> = {}): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    env: { ...process.env, ...env },
  })
  assert.equal(status, 0, `${error ?? ''}${stdout}${stderr}`)
  return stdout
}

// What is built does not depend on the runtime that asks for it.
if (runtime === 'node') {
  test('the build gives the same bytes in another folder, with no path in them', (t) => {
    if (lacks(t, 'cc')) return
    const folder = freshFolder()
    t.after(() => rmSync(folder, { recursive: true }))
    for (const part of ['native', 'scripts']) cpSync(part, join(folder, part), { recursive: true })
    symlinkSync(resolve('node_modules'), join(folder, 'node_modules'))
    run('node', [join(folder, 'scripts/native.mjs')])
    const here = join(folder, 'here.node')
    buildAddon(['--out', here])
    const bytes = readFileSync(here)
    assert.ok(bytes.equals(readFileSync(join(folder, 'dist/device.node'))))
    assert.equal(bytes.includes(resolve('.')), false)
    assert.ok(bytes.length < 65_536, String(bytes.length))
  })

  test('the file needs nothing but libc, and its memory is protected', (t) => {
    if (lacks(t, 'cc') || lacks(t, 'readelf')) return
    const folder = freshFolder()
    t.after(() => rmSync(folder, { recursive: true }))
    const file = join(folder, 'device.node')
    buildAddon(['--out', file])
    const dynamic = run('readelf', ['-dW', file])
    assert.deepEqual(dynamic.match(/NEEDED.*\[(.*)\]/g)?.length, 1)
    assert.match(dynamic, /NEEDED.*\[libc\.so\.6\]/)
    assert.doesNotMatch(dynamic, /RPATH|RUNPATH|TEXTREL/)
    assert.match(dynamic, /NOW NODELETE/)
    const segments = run('readelf', ['-lW', file])
    assert.match(segments, /GNU_STACK.* RW /)
    assert.match(segments, /GNU_RELRO/)
    const exported = run('readelf', ['-W', '--dyn-syms', file]).match(/GLOBAL DEFAULT +\d+ \S+/g)
    assert.deepEqual(exported?.map((line) => line.split(' ').at(-1)).sort(), [
      'napi_register_module_v1',
      'node_api_module_get_api_version_v1',
    ])
  })

  test('it builds for arm64 too', (t) => {
    if (lacks(t, 'arm64-cc', installed('aarch64-linux-gnu-gcc'))) return
    const folder = freshFolder()
    t.after(() => rmSync(folder, { recursive: true }))
    const file = join(folder, 'device.node')
    buildAddon(['--arch', 'arm64', '--out', file])
    const elf = readFileSync(file)
    // ELF header: 64 bits, little endian, EM_AARCH64 (183).
    assert.deepEqual([elf[4], elf[5], elf.readUInt16LE(18)], [2, 1, 183])
  })

  test('without a compiler the build goes on, and says what it needs', (t) => {
    const folder = freshFolder()
    t.after(() => rmSync(folder, { recursive: true }))
    const file = join(folder, 'device.node')
    const env = { ...process.env, CC: join(folder, 'no-compiler') }
    const args = ['scripts/native.mjs', '--out', file]
    const { status, stderr } = spawnSync('node', args, { encoding: 'utf8', env })
    assert.equal(status, 1)
    assert.match(
      stderr,
      /^Cannot build the native addon: it needs a C compiler \(.*no-compiler\)\n$/,
    )
    assert.equal(existsSync(file), false)
    const build = spawnSync('node', ['scripts/build.mjs'], { encoding: 'utf8', env })
    assert.equal(build.status, 0, build.stderr)
    assert.match(build.stderr, /^Built without the native addon: it needs a C compiler/m)
  })

  for (const sanitizer of ['address,undefined', 'thread']) {
    test(`lists, calls and lanes are clean under -fsanitize=${sanitizer}`, (t) => {
      if (lacks(t, 'sanitizers', hasSanitizers())) return
      const harness = buildHarness(t, [
        '-O1',
        `-fsanitize=${sanitizer}`,
        '-fno-sanitize-recover=all',
      ])
      if (!harness) return
      for (const seed of ['1', '77']) assert.match(run(harness, ['100000', seed]), /lanes: 10000/)
    })
  }

  test('and under valgrind', (t) => {
    if (lacks(t, 'valgrind')) return
    const harness = buildHarness(t, ['-O1'])
    if (!harness) return
    const strict = [
      '-q',
      '--error-exitcode=9',
      '--leak-check=full',
      '--errors-for-leak-kinds=definite',
    ]
    assert.match(run('valgrind', [...strict, harness, '5000']), /lanes: 500/)
  })

  test('the addon is clean under the address sanitizer, whatever it is given', (t) => {
    if (lacks(t, 'sanitizers', hasSanitizers())) return
    const tree = machineTree()
    t.after(tree.remove)
    const file = join(tree.root, 'device.node')
    const fake = ['-include', 'test/native/fake-kernel.h', `-DFAKE_ROOT="${tree.root}"`]
    buildAddon(['--sanitize', '--out', file], fake)
    tree.put(`${TSM}/x/inblob`)
    run('mkfifo', [join(tree.root, TSM, 'x/fifo')])
    const env = { LD_PRELOAD: library('libasan.so'), ASAN_OPTIONS: 'detect_leaks=0' }
    assert.match(run(process.execPath, ['test/native/abuse.mjs', file], env), /^\d+ calls\n$/)
    const workers = ['test/native/run-calls.mjs', file, 'workers']
    assert.equal(run(process.execPath, workers, env), 'file\n')
  })
}

/** Where the compiler has a library; just its name when it has none. */
function library(name: string): string {
  return spawnSync('cc', [`-print-file-name=${name}`], { encoding: 'utf8' }).stdout?.trim() ?? name
}

function hasSanitizers(): boolean {
  return ['libasan.so', 'libubsan.so', 'libtsan.so'].every((name) => library(name) !== name)
}

/** Builds test/native/harness.c; undefined, with the test skipped, without a compiler. */
function buildHarness(t: TestContext, flags: readonly string[]): string | undefined {
  if (lacks(t, 'cc')) return undefined
  const tree = machineTree()
  t.after(tree.remove)
  tree.put(`${TSM}/x/inblob`, 'in')
  const harness = join(tree.root, 'harness')
  run('cc', [
    ...['-std=c11', '-D_DEFAULT_SOURCE', '-DNAPI_VERSION=8', '-Wall', '-Wextra', '-Werror', '-g'],
    ...[...flags, '-pthread', '-isystem', 'node_modules/node-api-headers/include'],
    `-DFAKE_ROOT="${tree.root}"`,
    ...['test/native/harness.c', 'test/native/no-runtime.c', '-o', harness],
  ])
  return harness
}
