import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { freshFolder, runCvmd } from './helpers/daemon.ts'

const folder = freshFolder()
const env = { CVMD_STATE_DIR: join(folder, 'state'), CVMD_RUN_DIR: join(folder, 'run') }

function configFile(text: string): string {
  const file = join(folder, 'cvmd.toml')
  writeFileSync(file, text)
  return file
}

test('check explains what is wrong, with 78 as exit status', async () => {
  const file = configFile('[plugins.eventlog]\nmax_entris = 5\n\n[[listen]]\naddress = "nowhere"\n')
  const bad = await runCvmd(['check', '--config', file])
  assert.equal(bad.status, 78)
  assert.match(
    bad.stdout,
    /cvmd\.toml:2:1: plugins\.eventlog\.max_entris: unknown key \(eventlog\)/,
  )
  assert.match(bad.stdout, /cvmd\.toml:5:1: listen\.0\.address: expected host:port/)
  const json = await runCvmd(['check', '--json', '--config', file])
  const { ok, issues } = JSON.parse(json.stdout) as { ok: boolean; issues: { line: number }[] }
  assert.equal(ok, false)
  assert.deepEqual(issues.map(({ line }) => line).sort(), [2, 5])
  const good = await runCvmd(['check', '--config', configFile('[plugins.eventlog]\n')])
  assert.equal(good.status, 0, good.stdout)
  const gone = await runCvmd(['check', '--config', '/nonexistent.toml'])
  assert.equal(gone.status, 78)
  assert.match(gone.stdout, /cannot be read/)
})

test('every command has help; unknown words and flags are refused', async () => {
  const help = await runCvmd(['--help'])
  for (const name of [
    'serve',
    'check',
    'doctor',
    'plugins',
    'schema',
    'permissions',
    'events',
    'key',
    'reload',
    'plugin',
    'version',
  ]) {
    assert.match(help.stdout, new RegExp(`\\b${name}\\b`))
    const own = await runCvmd([name, '--help'])
    assert.equal(own.status, 0, name)
    assert.match(own.stdout, /USAGE/, name)
  }
  const word = await runCvmd(['frobnicate'])
  assert.equal(word.status, 1)
  assert.match(word.stderr, /there is no command "frobnicate"/)
  const flag = await runCvmd(['check', '--nosuch'])
  assert.equal(flag.status, 1)
  assert.match(flag.stderr, /there is no flag "--nosuch"/)
})

test('version, plugins and schema print JSON', async () => {
  const version = await runCvmd(['version', '--json'])
  const { version: own } = JSON.parse(readFileSync('package.json', 'utf8'))
  assert.equal(JSON.parse(version.stdout).version, own)
  assert.match((await runCvmd(['-v'])).stdout, /^cvmd \d/)
  const plugins = await runCvmd(['plugins', '--json'], env)
  const names = JSON.parse(plugins.stdout).plugins.map((p: { name: string }) => p.name)
  assert.deepEqual(names, [
    'eventlog',
    'actions',
    'uploads',
    'tdx',
    'nitro',
    'guest',
    'kms',
    'supervisor',
    'zos',
    'gpu',
  ])
  const schema = await runCvmd(['schema'], env)
  assert.equal(JSON.parse(schema.stdout).properties.plugins.properties.eventlog.type, 'object')
})

test('keys are made, listed and withdrawn', async () => {
  const made = await runCvmd(['key', 'add', 'ci', '--scope', 'events:read,actions:run:*'], env)
  assert.match(made.stdout, /^cvmd_[0-9a-f]+_\S{43}\n$/, made.stderr)
  const stored = readFileSync(join(folder, 'state/keys.json'), 'utf8')
  assert.ok(!stored.includes(made.stdout.trim().slice(20)), 'the token itself is not stored')
  const list = await runCvmd(['key', 'list'], env)
  assert.match(list.stdout, /ci +events:read,actions:run:\*/)
  assert.equal((await runCvmd(['key', 'add', 'ci', '--scope', '*'], env)).status, 1)
  assert.equal((await runCvmd(['key', 'add', 'x', '--scope', 'NO WAY'], env)).status, 1)
  assert.equal((await runCvmd(['key', 'remove', 'ci'], env)).status, 0)
  assert.equal(
    (await runCvmd(['key', 'list', '--json'], env)).stdout.replace(/\s/g, ''),
    '{"keys":[]}',
  )
})

test('permissions name what the configuration touches', async () => {
  const file = configFile(
    '[plugins.eventlog]\nfifo = "/run/x/pipe.fifo"\n[plugins.uploads.files.a]\npath = "/etc/app/a.json"\n',
  )
  const args = ['permissions', '--config', file]
  const flags = (await runCvmd([...args, '--deno'], env)).stdout
  assert.match(flags, /--allow-write=\S*\/etc\/app/)
  assert.match(flags, /--allow-net=127\.0\.0\.1:3535,unix:\S*cvmd\.sock/)
  const unit = (await runCvmd([...args, '--systemd'], env)).stdout
  assert.match(unit, /^ReadWritePaths=.*-\/etc\/app/m)
  assert.match(unit, /^ExecStart=\/usr\/bin\/cvmd serve --config \/.*cvmd\.toml$/m)
  assert.match(unit, /^ExecReload=\/usr\/bin\/cvmd reload --config \/.*cvmd\.toml$/m)
})

test('the packaged unit is the one the program prints for its defaults', async () => {
  const { stdout } = await runCvmd(['permissions', '--systemd', '--config', configFile('')], {
    CVMD_STATE_DIR: '/var/lib/cvmd',
    CVMD_RUN_DIR: '/run/cvmd',
  })
  const packaged = readFileSync('packaging/cvmd.service', 'utf8')
  assert.equal(stdout.replace(/ --config \S+/g, ''), packaged)
})

test('nobody home is a clear error', async () => {
  for (const command of [['reload'], ['events']]) {
    const { status, stderr } = await runCvmd([...command, '--socket', join(folder, 'none.sock')])
    assert.equal(status, 1)
    assert.match(stderr, /is cvmd running\? nobody answers on .*none\.sock/)
  }
})
