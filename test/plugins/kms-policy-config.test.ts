import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { parse } from 'smol-toml'
import * as v from 'valibot'
import { PolicyConfig, policyPermissions } from '../../plugins/kms/policy/config.ts'
import { createPolicy } from '../../plugins/kms/policy/index.ts'
import { parseRegistry } from '../../plugins/kms/policy/registry.ts'
import { BOOT_INFO, json, standIn, temporaryFile } from './kms-policy-fixtures.ts'

const folder = join(import.meta.dirname, '../../plugins/kms/policy')
const sample = readFileSync(join(folder, 'config.sample.toml'), 'utf8')
const readme = readFileSync(join(folder, 'README.md'), 'utf8')

/** The table `[plugins.kms.server.policy]` of a file. */
const table = (text: string): unknown => {
  const { plugins } = parse(text) as { plugins: { kms: { server: { policy: unknown } } } }
  return plugins.kms.server.policy
}

/** The sample's tables, each as if it were the one in use. */
const tables = sample
  .replace(/^# /gm, '')
  .split(/^(?=\[plugins\.kms\.server\.policy\])/m)
  .slice(1)
  .map((text) => table(text.replace(/^##.*$/gm, '')))

test('the sample shows every type, and what it shows is valid', () => {
  const types = tables.map((one) => v.parse(PolicyConfig, one).type)
  assert.deepEqual(types, ['file', 'webhook', 'chain', 'dev'])
  assert.equal(v.parse(PolicyConfig, table(sample)).type, 'file')
})

test('the sample shows every key', () => {
  for (const option of PolicyConfig.options) {
    const { entries } = 'pipe' in option ? option.pipe[0] : option
    const shown = tables.find((one) => (one as { type: string }).type === entries.type.literal)
    assert.deepEqual(Object.keys(shown as object).sort(), Object.keys(entries).sort())
  }
})

test('values shown as defaults are the defaults', () => {
  const bare: Record<string, object> = {
    webhook: { url: 'https://policy.example:3000' },
    chain: {
      rpc_url: 'https://node.example',
      contract: `0x${'ab'.repeat(20)}`,
      chain_id: 8453,
    },
    dev: {},
  }
  for (const [type, needed] of Object.entries(bare)) {
    const defaults = v.parse(PolicyConfig, { type, ...needed })
    const shown = tables.find((one) => (one as { type: string }).type === type)
    for (const [key, value] of Object.entries(defaults)) {
      if (key === 'contract' || value === undefined) continue
      assert.deepEqual((shown as Record<string, unknown>)[key], value, `${type}.${key}`)
    }
  }
})

const chain = (change: object) => ({
  type: 'chain',
  rpc_url: 'https://node.example',
  contract: `0x${'ab'.repeat(20)}`,
  chain_id: 1,
  ...change,
})

const REFUSED: Record<string, object> = {
  'no type': {},
  'another type': { type: 'open' },
  'a key of another type': { type: 'file', file: '/p.json', url: 'https://a.example' },
  'a misspelt key': { type: 'dev', gateway_id: '' },
  'a relative file': { type: 'file', file: 'policy.json' },
  'no file': { type: 'file' },
  'no URL': { type: 'webhook' },
  'what is no URL': { type: 'webhook', url: 'policy.example' },
  'a URL of a file': { type: 'webhook', url: 'file:///etc/policy' },
  'a user in the URL': { type: 'webhook', url: 'https://me@a.example' },
  'a password in the URL': { type: 'webhook', url: 'https://:pass@a.example' },
  'a query': { type: 'webhook', url: 'https://a.example/?key=1' },
  'a fragment': { type: 'webhook', url: 'https://a.example/#x' },
  'plain HTTP to another machine': { type: 'webhook', url: 'http://policy.example' },
  'plain HTTP to a name that begins like this one': {
    type: 'webhook',
    url: 'http://127.0.0.1.example',
  },
  'plain HTTP to another node': chain({ rpc_url: 'http://10.0.0.1:8545' }),
  'a token in the file itself': { type: 'webhook', url: 'https://a.example', token: 'abcdefgh' },
  'no deadline': { type: 'webhook', url: 'https://a.example', deadline_ms: 0 },
  'a deadline of an hour': { type: 'webhook', url: 'https://a.example', deadline_ms: 3_600_000 },
  'a short address': chain({ contract: '0xab' }),
  'an address without 0x': chain({ contract: 'ab'.repeat(20) }),
  'chain 0': chain({ chain_id: 0 }),
  'chain as text': chain({ chain_id: '1' }),
  'confirmations below none': chain({ confirmations: -1 }),
}

for (const [name, config] of Object.entries(REFUSED)) {
  test(`refused: ${name}`, () => assert.equal(v.safeParse(PolicyConfig, config).success, false))
}

test('plain HTTP on this machine, or where it is allowed', () => {
  const urls = ['http://127.0.0.1:3000', 'http://localhost:3000/x', 'http://[::1]:3000']
  for (const url of urls) assert.ok(v.is(PolicyConfig, { type: 'webhook', url }))
  const url = 'http://auth-api:3000'
  assert.ok(v.is(PolicyConfig, { type: 'webhook', url, allow_plain_http: true }))
  const { issues: [issue, ...others] = [] } = v.safeParse(PolicyConfig, { type: 'webhook', url })
  assert.ok(issue && others.length === 0)
  assert.equal(v.getDotPath(issue), 'url')
  assert.match(issue.message, /allow_plain_http = true/)
})

test('what a policy touches is known from its table', () => {
  const [file, webhook, node, dev] = tables.map((one) =>
    policyPermissions(v.parse(PolicyConfig, one)),
  )
  assert.deepEqual(file, { read: ['/etc/cvmd/kms-policy.json'] })
  assert.deepEqual(webhook, {
    read: ['/run/secrets/policy-token', '/etc/cvmd/policy-ca.pem'],
    net: ['policy.example:3000'],
  })
  assert.deepEqual(node, {
    read: ['/run/secrets/node-token', '/etc/cvmd/node-ca.pem', '/run/secrets/node-path'],
    net: ['node.example:443'],
  })
  assert.deepEqual(dev, {})
})

test('every type becomes the policy it names', async (t) => {
  const made = (config: object) => createPolicy(v.parse(PolicyConfig, config))
  const service = await standIn(t, json({ isAllowed: true, gatewayAppId: 'g', reason: '' }))
  const webhook = made({ type: 'webhook', url: service.url })
  assert.deepEqual(await webhook.app(BOOT_INFO), { allowed: true, gatewayAppId: 'g' })

  const file = made({ type: 'file', file: temporaryFile(t, 'policy.json', '{}') })
  assert.equal((await file.app(BOOT_INFO)).allowed, false)

  service.answer = ({ body }, response) => {
    const { id } = JSON.parse(body)
    response.end(JSON.stringify({ jsonrpc: '2.0', id, result: '0x5' }))
  }
  const path = temporaryFile(t, 'path', '/v3/secret-key')
  const node = made(chain({ rpc_url: service.url, rpc_path: { file: path } }))
  await assert.rejects(node.app(BOOT_INFO), { code: 'POLICY_CHAIN' })
  assert.equal(service.seen.at(-1)?.path, '/v3/secret-key')
})

test('for development everybody is allowed, and told so', async () => {
  const dev = createPolicy(v.parse(PolicyConfig, { type: 'dev', gateway_app_id: 'g' }))
  const nobody = { ...BOOT_INFO, osImageHash: '', composeHash: '', tcbStatus: 'Revoked' }
  for (const ask of [dev.app, dev.kms]) {
    assert.deepEqual(await ask(nobody), { allowed: true, gatewayAppId: 'g' })
  }
  assert.deepEqual(await dev.describe(), { isDev: true, gatewayAppId: 'g' })
})

test('the file that the README shows is valid', () => {
  const [, shown = ''] = /```json\n([\s\S]*?)```/.exec(readme) ?? []
  const { apps, osImages } = parseRegistry(shown)
  assert.deepEqual([apps.size, osImages.size], [1, 1])
})
