import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { type TestContext, test } from 'node:test'
import type { Twin } from '../plugins/zos/registry/registry.ts'
import { createRelayClient } from '../plugins/zos/relay/client.ts'
import { createIdentity, type Identity } from '../plugins/zos/rmb/identity.ts'
import { within } from '../src/deadline.ts'
import { testCommands, testLog } from './helpers/zos-commands.ts'
import { testRelay } from './helpers/zos-relay.ts'

// The published client of the grid, over a relay of our own, asks this daemon.

/** What is used of `@threefold/rmb_direct_client`. */
interface PublishedClient {
  tfclient: object
  signer: { readonly address: string }
  connect(): Promise<void>
  send(command: string, data: string, twin: number, minutes: number): Promise<string>
  read(request: string): Promise<unknown>
  disconnect(): Promise<void>
  disconnectAndExit(): void
}
type PublishedConstructor = new (
  chain: string,
  relay: string,
  mnemonic: string,
  session: string,
  keyType: string,
  retries: number,
) => PublishedClient

const MNEMONIC = 'garage dad improve reunion girl saddle theory know label reason fantasy deputy'
const CALLER = 1171
const NODE = 17
const VERSION = '{"zos":"3.14.1","zinit":"v0.2.14"}'

function twinOf(id: number, { publicKey, keyType, pk }: Identity, relay: string): Twin {
  return { id, keyType, publicKey, relays: [relay], pk }
}

/** Its chain, which it has a whole library for, as the few methods it calls. */
function chainOf(twins: readonly Twin[], addressOf: (key: Uint8Array) => string) {
  const shown = twins.map((twin) => ({
    id: twin.id,
    accountId: addressOf(twin.publicKey),
    relay: twin.relays.join('_'),
    pk: `0x${Buffer.from(twin.pk as Uint8Array).toString('hex')}`,
  }))
  const one = (is: (twin: (typeof shown)[number]) => boolean) => {
    const found = shown.find(is)
    if (!found) throw new Error('the published client asks for a twin that there is not')
    return found
  }
  return {
    connect: async () => {},
    disconnect: async () => {},
    twins: {
      get: async ({ id }: { id: number }) => one((twin) => twin.id === id),
      getTwinIdByAccountId: async ({ accountId }: { accountId: string }) =>
        one((twin) => twin.accountId === accountId).id,
      update: async () => {
        throw new Error('the published client wants to change the chain')
      },
    },
  }
}

for (const keyType of ['sr25519', 'ed25519'] as const) {
  test(`the published client gets encrypted answers, signing with ${keyType}`, async (t) => {
    const { client, relay } = await published(t, keyType)
    const request = await client.send('zos.system.version', '""', NODE, 1)
    const answer = await within(50_000, client.read(request), 'answer the published client')
    assert.deepEqual(answer, JSON.parse(VERSION))
    const refused = await client.send('zos.deployment.delete', '""', NODE, 1)
    await assert.rejects(
      within(50_000, client.read(refused), 'answer the published client'),
      /255 function is not found/,
    )
    assert.deepEqual(
      relay.passed.map(({ message, payload }) => [message?.kind, payload?.kind]),
      [
        ['request', 'cipher'],
        ['response', 'cipher'],
        ['request', 'cipher'],
        ['error', 'cipher'],
      ],
    )
    assert.deepEqual(relay.refused, [])
  })
}

async function published(t: TestContext, keyType: 'sr25519' | 'ed25519') {
  const caller = createIdentity(MNEMONIC, keyType)
  const node = createIdentity('77'.repeat(32), keyType === 'ed25519' ? 'sr25519' : 'ed25519')
  const keys = new Map([
    [CALLER, caller.publicKey],
    [NODE, node.publicKey],
  ])
  const relay = await testRelay(t, (id) => keys.get(id))
  // In the form that it makes of an address it is given, so that it leaves the chain as it is.
  const twins = [twinOf(CALLER, caller, relay.url.replace('/', '')), twinOf(NODE, node, relay.host)]
  const commands = testCommands({ 'zos.system.version': () => VERSION })
  const log = testLog()
  const own = createRelayClient({
    urls: [relay.url],
    identity: node,
    twinId: NODE,
    registry: {
      twin: async (id) => twins.find((twin) => twin.id === id),
      onChange: () => () => {},
    },
    commands,
    log,
    retryMs: 10,
  })
  t.after(() => own.stop())
  own.start()

  const require = createRequire(import.meta.url)
  const { Client } = require('@threefold/rmb_direct_client') as { Client: PublishedConstructor }
  // What it came with.
  const inside = createRequire(require.resolve('@threefold/rmb_direct_client'))
  const { encodeAddress } = inside('@polkadot/util-crypto') as {
    encodeAddress(key: Uint8Array): string
  }
  const client = new Client('ws://127.0.0.1:1', relay.url, MNEMONIC, 'sess', keyType, 1)
  client.tfclient = chainOf(twins, encodeAddress)
  await within(30_000, client.connect(), 'connect the published client')
  t.after(async () => {
    await client.disconnect()
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGUSR1', 'SIGUSR2']) {
      process.removeListener(signal, client.disconnectAndExit)
    }
  })
  return { client, relay }
}
