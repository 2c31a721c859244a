/** Two twins and a daemon in a process of its own, which is killed in the middle (spec zos §3, §7). */
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { type DaemonProcess, freshFolder, startDaemon, unixRequest } from './helpers/daemon.ts'
import {
  type ContractEntry,
  contractOf,
  OTHER,
  OWNER,
  registryText,
  SIGNERS,
  signedDeployment,
} from './helpers/zos-api.ts'
import { challenge, token } from './helpers/zos-auth.ts'
import { inTime, type Plan } from './helpers/zos-provision.ts'

const CONFIG = `[[listen]]
address = "127.0.0.1:0"
[[listen]]
unix = "{folder}/run/cvmd.sock"
[plugins.zos]
registry = "{folder}/registry.json"
engine_socket = "/nonexistent/engine.sock"
mount_disks = "folder"
[plugins.zos.drivers]
zmachine = "off"
network = "off"
gateway = "off"
zlogs = "off"
`

const MIB = 2 ** 20
const plan = (type: string, name: string, size: number, version = 0): Plan => ({
  name,
  type,
  data: { size },
  version,
})

interface Shown {
  readonly name: string
  readonly version: number
  readonly result: { readonly state: string; readonly message: string; readonly data: unknown }
}

/** The same machine over all lives of its daemon. */
class Machine {
  readonly folder = freshFolder()
  #daemon: DaemonProcess | undefined

  get daemon(): DaemonProcess {
    if (!this.#daemon) throw new Error('there is no daemon')
    return this.#daemon
  }

  async start(config = CONFIG): Promise<void> {
    this.#daemon = await startDaemon({ folder: this.folder, config })
  }

  async kill(): Promise<void> {
    this.daemon.signal('SIGKILL')
    await inTime(this.daemon.exited(), 'end')
    this.#daemon = undefined
  }

  async end(): Promise<void> {
    await this.#daemon?.stop()
    rmSync(this.folder, { recursive: true, force: true })
  }

  /** A command over TCP, signed by its twin. */
  async call(
    twin: number,
    command: string,
    body: string,
  ): Promise<{ status: number; body: string }> {
    const signer = SIGNERS[twin]
    if (!signer) throw new Error(`twin ${twin} has no key`)
    const now = Math.floor(Date.now() / 1000)
    const claims = { iss: String(twin), aud: 'zos', exp: now + 60 }
    // An Ed25519 challenge is the same all through a second, and changes one thing only.
    const headers: Record<string, string> =
      signer.type === 'ed25519'
        ? { authorization: token(signer.sign, claims) }
        : { 'x-auth': challenge(signer.sign, now, twin) }
    const answer = await this.daemon.get(`/zos/${command}`, { method: 'POST', headers, body })
    return { status: answer.status, body: await answer.text() }
  }

  /** Replaces the document by its file, as others do it. */
  write(contracts: readonly ContractEntry[]): void {
    const path = join(this.folder, 'registry.json')
    writeFileSync(`${path}.new`, registryText(contracts))
    renameSync(`${path}.new`, path)
  }

  /** Replaces it over the operator's socket. */
  async put(contracts: readonly ContractEntry[]): Promise<void> {
    const body = registryText(contracts)
    const answer = await unixRequest(this.daemon.socket, '/zos-registry', { method: 'PUT', body })
    assert.equal(answer.status, 204, answer.body)
  }

  async show(twin: number, id: number, command = 'get'): Promise<readonly Shown[]> {
    const answer = await this.call(twin, `zos.deployment.${command}`, `{"contract_id":${id}}`)
    if (answer.status === 404) return []
    assert.equal(answer.status, 200, answer.body)
    const parsed = JSON.parse(answer.body)
    return command === 'get' ? parsed.workloads : parsed
  }

  /** Waits until `name state` of all workloads are these; [] is a deployment that is gone. */
  async reaches(twin: number, id: number, states: readonly string[]): Promise<void> {
    let now: readonly string[] = []
    const end = performance.now() + 20_000
    while (performance.now() < end) {
      const all = await this.show(twin, id)
      now = all.map(({ name, version, result }) => `${name}@${version} ${result.state}`)
      if (JSON.stringify(now) === JSON.stringify(states)) return
      await new Promise((tick) => setTimeout(tick, 50))
    }
    assert.deepEqual(now, states)
  }

  async used(): Promise<{ sru: number; deployments: number }> {
    const { body } = await this.call(OWNER, 'zos.statistics.get', '')
    const { used, system, users } = JSON.parse(body)
    return { sru: used.sru + used.hru - system.sru, deployments: users.deployments }
  }

  /** Names below a folder of the daemon's state. */
  kept(name: string): readonly string[] {
    const path = join(this.folder, 'state/zos', name)
    return existsSync(path) ? readdirSync(path).sort() : []
  }
}

async function machine(t: TestContext): Promise<Machine> {
  const one = new Machine()
  t.after(() => one.end())
  await one.start()
  return one
}

test('two twins deploy, update, pause and cancel, over a daemon that is killed', async (t) => {
  const node = await machine(t)
  const first = signedDeployment([plan('zmount', 'disk', 10 * MIB), plan('volume', 'vol', MIB)], {
    contractId: 5n,
  })
  const other = signedDeployment([plan('volume', 'vol', 2 * MIB)], {
    contractId: 6n,
    twinId: OTHER,
    style: 'polka-wallet',
  })
  await node.put([contractOf(first), contractOf(other)])
  for (const [twin, text] of [
    [OWNER, first],
    [OTHER, other],
  ] as const) {
    const answer = await node.call(twin, 'zos.deployment.deploy', text)
    assert.deepEqual(answer, { status: 202, body: 'null' })
  }
  await node.reaches(OWNER, 5, ['disk@0 ok', 'vol@0 ok'])
  await node.reaches(OTHER, 6, ['vol@0 ok'])
  const [disk, vol] = await node.show(OWNER, 5)
  assert.deepEqual(disk?.result.data, { volume_id: '42-5-disk' })
  assert.deepEqual(vol?.result.data, { id: '42-5-vol' })
  assert.deepEqual(node.kept('data/volumes'), ['42-5-vol', '43-6-vol'])
  assert.deepEqual(await node.used(), { sru: 13 * MIB, deployments: 2 })

  const second = signedDeployment(
    [plan('volume', 'vol', 3 * MIB, 1), plan('volume', 'new', MIB, 1)],
    {
      contractId: 5n,
      version: 1,
    },
  )
  node.write([contractOf(second), contractOf(other)])
  await updated(node, second)
  await node.kill()
  await node.start()
  await node.reaches(OWNER, 5, ['vol@1 ok', 'new@1 ok'])
  await node.reaches(OTHER, 6, ['vol@0 ok'])
  const history = (await node.show(OWNER, 5, 'changes')).map(
    ({ name, version, result: { state, message } }) =>
      `${name}@${version} ${state} ${message}`.trim(),
  )
  assert.deepEqual([...new Set(history)].sort(), [
    'disk@0 deleted deleted by an update',
    'disk@0 init',
    'disk@0 ok',
    'new@1 init',
    'new@1 ok',
    'vol@0 init',
    'vol@0 ok',
    'vol@1 ok',
  ])
  assert.deepEqual(node.kept('data/volumes'), ['42-5-new', '42-5-vol', '43-6-vol'])
  assert.deepEqual(await node.used(), { sru: 6 * MIB, deployments: 2 })

  node.write([contractOf(second, 'grace_period'), contractOf(other)])
  await node.reaches(OWNER, 5, ['vol@1 paused', 'new@1 paused'])
  await node.reaches(OTHER, 6, ['vol@0 ok'])
  await node.kill()
  await node.start()
  await node.reaches(OWNER, 5, ['vol@1 paused', 'new@1 paused'])
  node.write([contractOf(second), contractOf(other)])
  await node.reaches(OWNER, 5, ['vol@1 ok', 'new@1 ok'])

  // Cancelled while nobody looks.
  await node.kill()
  node.write([contractOf(second, 'deleted')])
  await node.start()
  await node.reaches(OWNER, 5, [])
  await node.reaches(OTHER, 6, [])
  for (const [twin, id] of [
    [OWNER, 5],
    [OTHER, 6],
  ] as const) {
    const answer = await node.call(twin, 'zos.deployment.changes', `{"contract_id":${id}}`)
    assert.equal(answer.body, '{"error":{"code":255,"message":"deployment not found"}}\n')
  }
  assert.deepEqual(node.kept('data/volumes'), [])
  assert.deepEqual(node.kept('data/vdisks'), [])
  assert.deepEqual(await node.used(), { sru: 0, deployments: 0 })
})

/** Updates as soon as the registry's file is read again. */
async function updated(node: Machine, text: string): Promise<void> {
  const end = performance.now() + 20_000
  for (;;) {
    const { status, body } = await node.call(OWNER, 'zos.deployment.update', text)
    if (status === 202) return assert.equal(body, 'null')
    assert.match(body, /contract hash does not match deployment hash/)
    if (performance.now() > end) assert.fail('the registry was not read again')
  }
}

test('a reload in the middle of a deployment: it is refused or accepted, the others stay', async (t) => {
  const node = await machine(t)
  const first = signedDeployment([plan('volume', 'vol', MIB)], { contractId: 5n })
  const late = signedDeployment([plan('volume', 'vol', MIB)], { contractId: 7n })
  await node.put([contractOf(first)])
  assert.equal((await node.call(OWNER, 'zos.deployment.deploy', first)).status, 202)
  await node.reaches(OWNER, 5, ['vol@0 ok'])
  // Its contract is not there yet, so it waits.
  const waiting = node.call(OWNER, 'zos.deployment.deploy', late)
  await new Promise((tick) => setTimeout(tick, 300))
  const file = join(node.folder, 'cvmd.toml')
  const text = readFileSync(file, 'utf8').replace(
    '[plugins.zos]\n',
    '[plugins.zos]\nrequire_auth = true\n',
  )
  writeFileSync(`${file}.new`, text)
  renameSync(`${file}.new`, file)
  const reloaded = await unixRequest(node.daemon.socket, '/cvmd/reload', { method: 'POST' })
  assert.equal(reloaded.status, 200, reloaded.body)
  const { status, body } = await inTime(waiting, 'answer')
  assert.ok([400, 503].includes(status), `${status} ${body}`)
  const nobody = await node.daemon.get('/zos/zos.system.version', { method: 'POST' })
  assert.equal(nobody.status, 401)
  await node.reaches(OWNER, 5, ['vol@0 ok'])
  assert.equal((await node.show(OWNER, 7)).length, 0)
})
