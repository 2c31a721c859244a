/** Two daemons that are one KMS, rotated from the command line. */
import assert from 'node:assert/strict'
import { cpSync, mkdirSync, rmSync } from 'node:fs'
import { request } from 'node:https'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  type DaemonProcess,
  freshFolder,
  runCvmd,
  startDaemon,
  unixRequest,
} from '../helpers/daemon.ts'

interface Status {
  readonly mode: string
  readonly address: string
  readonly version: number
  readonly versions: readonly { readonly ca_cert: string; readonly k256_public_key: string }[]
}

const folders = [freshFolder(), freshFolder()] as const
const daemons: DaemonProcess[] = []

const start = (folder: string): Promise<DaemonProcess> =>
  startDaemon({
    folder,
    args: ['--simulate', 'tdx'],
    config: `[[listen]]
unix = "{folder}/run/cvmd.sock"

[plugins.kms]
role = "server"
[plugins.kms.trust]
tdx_root = "{folder}/state/simulate/tdx-root.pem"
collateral = "{folder}/state/simulate/tdx-collateral.json"
[plugins.kms.server]
address = "127.0.0.1:0"
auto_bootstrap_domain = "kms.example"
[plugins.kms.server.policy]
type = "dev"
`,
  })

async function serving(daemon: DaemonProcess): Promise<Status> {
  let body = ''
  for (let tries = 0; tries < 400; tries++) {
    ;({ body } = await unixRequest(daemon.socket, '/cvmd/kms'))
    const status = JSON.parse(body) as Status
    if (status.mode === 'serving') return status
    await sleep(50)
  }
  throw new Error(`the KMS does not serve: ${body}\n${daemon.output()}`)
}

/** GetMeta, as anybody may ask it. */
async function meta(daemon: DaemonProcess): Promise<Record<string, unknown>> {
  const [host, port] = (await serving(daemon)).address.split(':')
  return new Promise((resolve, reject) => {
    const asking = request(
      { host, port, path: '/prpc/GetMeta?json', rejectUnauthorized: false, agent: false },
      (incoming) => {
        let text = ''
        incoming.setEncoding('utf8')
        incoming.on('data', (data) => {
          text += data
        })
        incoming.on('end', () => resolve(JSON.parse(text)))
      },
    )
    asking.on('error', reject)
    asking.end()
  })
}

async function kms(daemon: DaemonProcess, ...args: string[]): Promise<unknown> {
  const { status, stdout, stderr } = await runCvmd([
    'kms',
    ...args,
    '--json',
    '--socket',
    daemon.socket,
  ])
  assert.equal(status, 0, stderr)
  return JSON.parse(stdout)
}

before(async () => {
  const [one, two] = folders
  const first = await start(one)
  daemons.push(first)
  await serving(first)
  // The second has the same root keys, and evidence of the same maker.
  mkdirSync(join(two, 'state', 'kms'), { recursive: true, mode: 0o700 })
  for (const name of ['simulate', 'kms/root-keys']) {
    cpSync(join(one, 'state', name), join(two, 'state', name), { recursive: true })
  }
  daemons.push(await start(two))
})

after(async () => {
  for (const daemon of daemons) await daemon.stop()
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

test('a cluster is rotated without a moment in which its members differ', async () => {
  const [one, two] = daemons as [DaemonProcess, DaemonProcess]
  const before = await meta(one)
  assert.deepEqual([before.root_version, before.root_versions], [0, [0]])
  assert.deepEqual(await kms(one, 'rotate', '--prepare'), {
    version: 1,
    current: 0,
    versions: [0, 1],
  })
  assert.deepEqual(await meta(one), { ...before, root_versions: [0, 1] })
  const { address } = await serving(one)
  assert.deepEqual(await kms(two, 'sync', `https://${address}`), {
    added: [1],
    current: 0,
    versions: [0, 1],
  })
  for (const daemon of [one, two]) {
    assert.deepEqual(await kms(daemon, 'use', '1'), { current: 1, versions: [0, 1] })
  }
  const [ofOne, ofTwo] = [await meta(one), await meta(two)]
  assert.equal(ofOne.k256_pubkey, ofTwo.k256_pubkey)
  assert.notEqual(ofOne.k256_pubkey, before.k256_pubkey)
  const { versions } = await serving(one)
  assert.deepEqual(
    [ofOne.ca_cert, ofOne.k256_pubkey],
    [versions[1]?.ca_cert, versions[1]?.k256_public_key],
  )
  const events = await unixRequest(one.socket, '/cvmd/events?source=kms')
  assert.match(events.body, /made root keys of version 1, not used yet, by /)
})

test('the version in use survives kill -9', async () => {
  const one = daemons[0] as DaemonProcess
  const before = await serving(one)
  one.signal('SIGKILL')
  await one.exited()
  const again = await start(folders[0])
  daemons[0] = again
  const found = await serving(again)
  assert.deepEqual([found.version, found.versions], [1, before.versions])
})
