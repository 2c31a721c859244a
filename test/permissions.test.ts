import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join, resolve } from 'node:path'
import { test } from 'node:test'
import { runtime } from '../src/runtime.ts'
import { lacks } from './helpers/counterpart.ts'
import {
  type DaemonProcess,
  freshFolder,
  runCvmd,
  startDaemon,
  unixRequest,
} from './helpers/daemon.ts'
import { ask, Grid, isErased, reaches } from './helpers/zos-grid.ts'
import { disk as zmount } from './helpers/zos-machine.ts'

const INSTALLED = resolve('node_modules/.bin/deno')
const deno = runtime === 'deno' ? process.execPath : existsSync(INSTALLED) ? INSTALLED : undefined

async function eventually(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 300; i++) {
    if (await holds()) return
    await new Promise((tick) => setTimeout(tick, 20))
  }
  assert.fail(`never came: ${what}`)
}

const SYSTEM_API = `[general]
listen_addr = "127.0.0.1:0"
pipe_file = "{folder}/in/pipe.fifo"
basic_auth_secret_path = "{folder}/secret/basic-auth-secret.txt"
tls_enabled = false
[actions]
echo_test = "echo test"
slow = "echo $$ > '{folder}/slow.pid'; exec sleep 100"
[file_uploads]
testfile = "{folder}/files/testfile.txt"
`

test('under Deno the printed flags suffice for a whole session', async (t) => {
  if (lacks(t, 'deno', deno !== undefined)) return
  const folder = freshFolder()
  for (const name of ['in', 'secret', 'files']) mkdirSync(join(folder, name))
  const file = join(folder, 'cvmd.toml')
  writeFileSync(file, SYSTEM_API.replaceAll('{folder}', folder))
  const env = { CVMD_STATE_DIR: join(folder, 'state'), CVMD_RUN_DIR: join(folder, 'run') }
  const { stdout } = await runCvmd(['permissions', '--deno', '--config', file], env)
  const flags = stdout.trim().split(' ')
  for (const flag of flags) {
    assert.match(flag, /^--allow-(env|(read|write|net|run|sys)=\S+)$/, 'only allow lists')
  }
  const daemon = await startDaemon({
    folder,
    config: SYSTEM_API,
    // The slow action keeps the drain waiting, and Deno does not tell whether its group is gone.
    env: { CVMD_SHUTDOWN_TIMEOUT_MS: '300', CVMD_PLUGINS__ACTIONS__GRACE_S: '1' },
    command: [deno as string, 'run', '--no-prompt', '--quiet', ...flags, resolve('src/main.ts')],
  })
  try {
    await session(daemon)
    assert.equal(await daemon.stop(), 0, daemon.output())
    assert.doesNotMatch(daemon.output(), /NotCapable|allow-/)
    const pid = Number(readFileSync(join(folder, 'slow.pid'), 'utf8'))
    await eventually('the end of the slow action', () => !isAlive(pid))
  } finally {
    await daemon.stop()
    rmSync(folder, { recursive: true, force: true })
  }
})

const KMS = `state_dir = "{folder}/state"
run_dir = "{folder}/run"
[[listen]]
unix = "{folder}/run/cvmd.sock"
[plugins.guest]
os_image_hash = "${'12'.repeat(32)}"
[plugins.kms]
role = "server"
[plugins.kms.trust]
tdx_root = "{folder}/state/simulate/tdx-root.pem"
collateral = "{folder}/state/simulate/tdx-collateral.json"
[plugins.kms.server]
address = "127.0.0.1:0"
root_keys = "{folder}/keys"
[plugins.kms.server.policy]
type = "file"
file = "{folder}/policy.json"
`

test('under Deno the printed flags suffice for a KMS, from its set-up to its keys', async (t) => {
  if (lacks(t, 'deno', deno !== undefined)) return
  const folder = freshFolder()
  mkdirSync(join(folder, 'keys'), { mode: 0o700 })
  const file = join(folder, 'cvmd.toml')
  writeFileSync(file, KMS.replaceAll('{folder}', folder))
  const simulated = ['--simulate', 'tdx']
  const printed = await runCvmd(['permissions', '--deno', '--config', file, ...simulated])
  const flags = printed.stdout.trim().split(' ')
  const daemon = await startDaemon({
    folder,
    config: KMS,
    args: simulated,
    command: [deno as string, 'run', '--no-prompt', '--quiet', ...flags, resolve('src/main.ts')],
  })
  const status = async () => {
    const answer = await unixRequest(daemon.socket, '/cvmd/kms')
    return JSON.parse(answer.body) as { mode: string; address: string; reason: string | null }
  }
  try {
    const base = `http://${(await status()).address}`
    const token = readFileSync(join(folder, 'state/kms/onboard-token'), 'utf8').trim()
    const asked = async (path: string, body?: object) => {
      const method = body ? 'POST' : 'GET'
      const headers = { authorization: `Bearer ${token}` }
      const init = { method, headers, ...(body && { body: JSON.stringify(body) }) }
      const answer = await fetch(`${base}${path}`, init)
      assert.equal(answer.status, 200, await answer.clone().text())
      return answer.text()
    }
    const self = JSON.parse(await asked('/prpc/Onboard.GetAttestationInfo', {}))
    const kms = { mrAggregated: [self.mr_aggregated], devices: [], allowAnyDevice: true }
    writeFileSync(
      join(folder, 'policy.json'),
      JSON.stringify({ osImages: [self.os_image_hash], kms, apps: {} }),
    )
    await asked('/prpc/Onboard.Bootstrap', { domain: 'kms.example' })
    await asked('/finish')
    await eventually('keys', async () => (await status()).mode === 'serving')
    assert.equal(await daemon.stop(), 0, daemon.output())
    assert.doesNotMatch(daemon.output(), /NotCapable|allow-/)
  } finally {
    await daemon.stop()
    rmSync(folder, { recursive: true, force: true })
  }
})

const ZOS = `state_dir = "{folder}/state"
run_dir = "{folder}/run"
[[listen]]
unix = "{folder}/run/cvmd.sock"
[plugins.zos]
registry = "{folder}/registry.json"
mount_disks = "folder"
[plugins.zos.drivers]
zmachine = "off"
network = "off"
`

test('under Deno the printed flags suffice for a grid node with disks', async (t) => {
  if (lacks(t, 'deno', deno !== undefined)) return
  const folder = freshFolder()
  const grid = new Grid(join(folder, 'registry.json'))
  const file = join(folder, 'cvmd.toml')
  writeFileSync(file, ZOS.replaceAll('{folder}', folder))
  const printed = await runCvmd(['permissions', '--deno', '--config', file])
  const flags = printed.stdout.trim().split(' ')
  const daemon = await startDaemon({
    folder,
    config: ZOS,
    command: [deno as string, 'run', '--no-prompt', '--quiet', ...flags, resolve('src/main.ts')],
  })
  try {
    const disk = { ...zmount, data: { size: 1024 * 1024 } }
    const text = grid.signed(7, [disk, { ...disk, name: 'shared', type: 'volume' }])
    const accepted = await ask(daemon.socket, 'zos.deployment.deploy', text)
    assert.equal(accepted.status, 202, accepted.body)
    await reaches(daemon.socket, 7, { disk: 'ok', shared: 'ok' })
    for (const command of [
      'statistics.get',
      'system.version',
      'system.dmi',
      'network.interfaces',
    ]) {
      const answer = await ask(daemon.socket, `zos.${command}`)
      assert.equal(answer.status, 200, `${command}: ${answer.body}`)
    }
    grid.setState(7, 'deleted')
    await isErased(daemon.socket, 7)
    assert.equal(await daemon.stop(), 0, daemon.output())
    // What Deno refuses to narrow permissions is told once, and costs figures only.
    assert.doesNotMatch(daemon.output(), /ERROR|state\/zos.*NotCapable/)
  } finally {
    await daemon.stop()
    rmSync(folder, { recursive: true, force: true })
  }
})

const SUPERVISOR = `state_dir = "{folder}/state"
run_dir = "{folder}/run"
[[listen]]
unix = "{folder}/run/cvmd.sock"
[[listen]]
address = "127.0.0.1:0"
plugins = ["supervisor"]
core = false
[plugins.supervisor]
enabled = true
engine_socket = "{folder}/engine.sock"
lock_dir = "{folder}/locks/services"
[plugins.supervisor.machine]
root = "{folder}/host"
`

test('under Deno the printed flags suffice for a supervisor', async (t) => {
  if (lacks(t, 'deno', deno !== undefined)) return
  const folder = freshFolder()
  mkdirSync(join(folder, 'host'))
  // An engine that is there and knows nothing.
  const engine = createServer((socket) => socket.end('HTTP/1.1 503 Later\r\n\r\n'))
  await new Promise<void>((bound) => engine.listen(join(folder, 'engine.sock'), bound))
  const file = join(folder, 'cvmd.toml')
  writeFileSync(file, SUPERVISOR.replaceAll('{folder}', folder))
  const printed = await runCvmd(['permissions', '--deno', '--config', file])
  const flags = printed.stdout.trim().split(' ')
  const daemon = await startDaemon({
    folder,
    config: SUPERVISOR,
    command: [deno as string, 'run', '--no-prompt', '--quiet', ...flags, resolve('src/main.ts')],
  })
  try {
    assert.equal(await text(daemon, '/ping'), 'OK')
    const { body } = await unixRequest(daemon.socket, '/cvmd/supervisor/key')
    const key = /[0-9a-f]{64}/.exec(body)?.[0]
    assert.ok(key, body)
    const found = JSON.parse(await text(daemon, `/v1/device?apikey=${key}`))
    assert.equal(typeof found.api_port, 'number')
    assert.equal(await daemon.stop(), 0, daemon.output())
    assert.doesNotMatch(daemon.output(), /NotCapable|allow-/)
  } finally {
    await daemon.stop()
    engine.close()
    rmSync(folder, { recursive: true, force: true })
  }
})

async function session(daemon: DaemonProcess): Promise<void> {
  const { folder } = daemon
  appendFileSync(join(folder, 'in/pipe.fifo'), 'hello world\n')
  await eventually('the line', async () => /hello world/.test(await text(daemon, '/logs')))
  assert.equal(await text(daemon, '/api/v1/new_event?message=this+is+a+test'), '')
  const action = await text(daemon, '/api/v1/actions/echo_test')
  assert.equal(action, '{"message":"Action executed successfully"}\n')
  const upload = { method: 'POST', body: 'some text' }
  assert.match(await text(daemon, '/api/v1/file-upload/testfile', upload), /"size_bytes":"9"/)
  assert.match(await text(daemon, '/cvmd/uploads'), /"size_bytes":9/)
  assert.match(
    await text(daemon, '/logs'),
    /this is a test\n.*\n.*echo_test = echo test\n.*\n.*content: 9 bytes\n$/,
  )
  assert.match(await text(daemon, '/cvmd/metrics'), /^cvmd_uploads_total/m)
  assert.match(await text(daemon, '/cvmd/ready'), /"ready":true/)
  assert.match(await text(daemon, '/cvmd/reload', { method: 'POST' }), /"kept":\["eventlog"/)
  // Ended by the stop of the daemon.
  text(daemon, '/api/v1/actions/slow').catch(() => undefined)
  await eventually('the slow action', () => existsSync(join(folder, 'slow.pid')))
  const set = await text(daemon, '/api/v1/set-basic-auth', { method: 'POST', body: 'secret' })
  assert.equal(set, '{"message":"Basic auth secret updated"}\n')
  assert.equal((await daemon.get('/livez')).status, 401)
  const authorization = `Basic ${btoa('admin:secret')}`
  assert.match(await text(daemon, '/livez', { headers: { authorization } }), /ok/)
}

async function text(daemon: DaemonProcess, path: string, init?: RequestInit): Promise<string> {
  return (await daemon.get(path, init)).text()
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    // A zombie waits for its parent, it does not run.
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')
  } catch {
    return false
  }
}

test('the permission set "operator" is what the defaults need', async (t) => {
  const folder = freshFolder()
  const file = join(folder, 'empty.toml')
  writeFileSync(file, '')
  const env = { CVMD_STATE_DIR: '/var/lib/cvmd', CVMD_RUN_DIR: '/run/cvmd' }
  const { stdout } = await runCvmd(['permissions', '--deno', '--config', file], env)
  const { permissions } = JSON.parse(readFileSync('deno.json', 'utf8'))
  const flags = Object.entries(permissions.operator as Record<string, true | readonly string[]>)
    .map(([kind, list]) => `--allow-${kind}${list === true ? '' : `=${list.join(',')}`}`)
    .sort()
  const printed = stdout.trim().replace(file, '/etc/cvmd/cvmd.toml').split(' ')
  // The configuration file changed its place in the sorted list.
  const sorted = (flag: string) => flag.replace(/=(.*)/, (_, l) => `=${l.split(',').sort()}`)
  assert.deepEqual(printed.map(sorted).sort(), flags.map(sorted))
  rmSync(folder, { recursive: true })
  if (lacks(t, 'deno', deno !== undefined)) return
  const args = ['run', '--no-prompt', '-P=operator', 'src/main.ts', 'version']
  assert.match(execFileSync(deno as string, args, { encoding: 'utf8' }), /^cvmd \d/)
})

test('systemd accepts the packaged unit and finds little exposed', (t) => {
  const analyze = (...args: readonly string[]) =>
    spawnSync('systemd-analyze', args, { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } })
  if (lacks(t, 'systemd', analyze('--version').status === 0)) return
  const folder = freshFolder()
  const unit = join(folder, 'cvmd.service')
  const text = readFileSync('packaging/cvmd.service', 'utf8')
  writeFileSync(unit, text.replaceAll('/usr/bin/cvmd', process.execPath))
  const verified = analyze('verify', unit)
  assert.equal(verified.stderr, '')
  assert.equal(verified.status, 0)
  const { stdout } = analyze('security', '--offline=yes', unit)
  const exposure = Number(/exposure level for \S+: ([\d.]+)/.exec(stdout)?.[1])
  assert.ok(exposure <= 2.3, stdout)
  rmSync(folder, { recursive: true })
})
