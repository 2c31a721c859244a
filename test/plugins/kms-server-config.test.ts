/** The table [plugins.kms.server]. */
import assert from 'node:assert/strict'
import { readFileSync, rmSync } from 'node:fs'
import { test } from 'node:test'
import * as v from 'valibot'
import { ServerConfig } from '../../plugins/kms/server/config.ts'
import {
  VERIFICATION_LIMITS,
  verificationLimits,
} from '../../plugins/kms/trust/verification-budget.ts'
import { parseToml } from '../../src/config/toml.ts'
import { freshFolder, startDaemon, unixRequest } from '../helpers/daemon.ts'
import { askUnverified } from '../helpers/kms-answers.ts'
import { eventually } from '../helpers/kms-daemon.ts'

const policy = { type: 'dev' }

test('the README names every setting with its default', () => {
  const readme = readFileSync(
    new URL('../../plugins/kms/server/README.md', import.meta.url),
    'utf8',
  )
  const [, sample = ''] = /## Configuration\n\n```toml\n(.*?)```/s.exec(readme) ?? []
  const { plugins } = parseToml(sample.replace(/^# /gm, ''), 'README.md') as unknown as {
    plugins: { kms: { server: object } }
  }
  const named = plugins.kms.server
  const { policy: _, ...entries } = ServerConfig.entries
  assert.deepEqual(Object.keys(named).sort(), Object.keys(entries).sort())
  const { policy: __, ...defaults } = v.parse(ServerConfig, { policy })
  // What has no default is shown with an example.
  for (const [name, value] of Object.entries(defaults)) {
    assert.deepEqual({ ...named }[name as never], value, name)
  }
  v.parse(ServerConfig, { ...named, policy })
})

test('how much is verified for strangers is configured, and by default what it was', () => {
  const { verifications_per_second: all, verifications_per_second_per_peer: perPeer } = v.parse(
    ServerConfig,
    { policy },
  )
  assert.deepEqual(verificationLimits(all, perPeer), VERIFICATION_LIMITS)
  assert.deepEqual(verificationLimits(7, 3), {
    perPeer: { burst: 30, perSecond: 3 },
    all: { burst: 35, perSecond: 7 },
    maxPeers: VERIFICATION_LIMITS.maxPeers,
  })
  for (const wrong of [0, 1.5, -1, 1e6]) {
    assert.ok(!v.is(ServerConfig, { policy, verifications_per_second: wrong }))
  }
})

test('a KMS keeps to it', async () => {
  const folder = freshFolder()
  const daemon = await startDaemon({
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
auto_bootstrap_domain = "127.0.0.1"
verifications_per_second_per_peer = 1
policy = { type = "dev" }
`,
  })
  try {
    const look = async () => JSON.parse((await unixRequest(daemon.socket, '/cvmd/kms')).body)
    const { address } = await eventually('it serves', look, ({ mode }) => mode === 'serving')
    const ask = () => askUnverified(`https://${address}`, '/prpc/SignCert?json', { api_version: 2 })
    const answers = await Promise.all(Array.from({ length: 40 }, ask))
    const paid = answers.filter(({ status }) => status === 400).length
    // Ten at once, and one more with each second that this took.
    assert.ok(paid >= 10, `${paid} of ${answers.length}`)
    assert.ok(answers.some(({ json }) => json.code === 'RATE_LIMITED'))
  } finally {
    await daemon.stop()
    rmSync(folder, { recursive: true, force: true })
  }
})
