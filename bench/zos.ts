// What a deployment costs before it is accepted, without sockets: its text read and checked, hashed,
// its signature verified. Beside it what cannot be spared: the runtime's own JSON and MD5, and a
// signature verified alone. `bun bench/zos.ts`, `node --import tsx bench/zos.ts`.

import { createHash, createPrivateKey, createPublicKey, sign } from 'node:crypto'
import { getPublicKey, secretFromSeed, sign as signSr25519 } from '@scure/sr25519'
import { verifyEd25519 } from '../plugins/zos/deployment/ed25519.ts'
import { hashOf } from '../plugins/zos/deployment/hash.ts'
import { readDeployment } from '../plugins/zos/deployment/read.ts'
import { verifySignatures } from '../plugins/zos/deployment/signatures.ts'
import { verifySr25519 } from '../plugins/zos/deployment/sr25519.ts'
import { type Case, measure } from './measure.ts'

const TWIN = 42
const ed25519 = ed25519Signer()
const sr25519 = sr25519Signer()
const unsigned = deploymentText([])
const hash = hashOf(readDeployment(unsigned))

await measure([...reading(), ...(await verifying('ed25519')), ...(await verifying('sr25519'))])

function reading(): Case[] {
  const work = (each: () => unknown) => ({ count: 200, work: () => times(200, each) })
  return [
    {
      name: 'yardstick: JSON.parse, JSON.stringify, MD5',
      ...work(() =>
        createHash('md5')
          .update(JSON.stringify(JSON.parse(unsigned)))
          .digest(),
      ),
    },
    { name: 'read and checked', ...work(() => readDeployment(unsigned)) },
    { name: 'read, checked, hashed', ...work(() => hashOf(readDeployment(unsigned))) },
  ]
}

/** One signature, alone and as part of a deployment. */
async function verifying(type: 'ed25519' | 'sr25519'): Promise<Case[]> {
  const { publicKey, signature } = type === 'ed25519' ? ed25519 : sr25519
  const bytes = signature(hash)
  const text = deploymentText([
    { twin_id: TWIN, signature: Buffer.from(bytes).toString('hex'), signature_type: type },
  ])
  const verify = type === 'ed25519' ? verifyEd25519 : verifySr25519
  const count = type === 'ed25519' ? 20 : 2
  const options = { keyOf: async () => publicKey, strict: false }
  if (!(await verify(publicKey, hash, bytes))) throw new Error(`${type} does not verify`)
  return [
    {
      name: `yardstick: ${type} alone`,
      count,
      work: () => inTurn(count, async () => void (await verify(publicKey, hash, bytes))),
    },
    {
      name: `read, checked, hashed, ${type} verified`,
      count,
      work: () => inTurn(count, () => verifySignatures(readDeployment(text), options)),
    },
  ]
}

/** A machine with a disk in a network, as clients send it: 1.5 kB. */
function deploymentText(signatures: readonly object[]): string {
  const workload = (type: string, name: string, data: object) => {
    return { version: 0, name, type, data, metadata: '', description: '' }
  }
  return JSON.stringify({
    version: 0,
    twin_id: TWIN,
    contract_id: 8955,
    metadata: '{"type":"vm","name":"shop"}',
    description: 'shop',
    expiration: 0,
    signature_requirement: {
      requests: [{ twin_id: TWIN, required: false, weight: 1 }],
      weight_required: 1,
      signatures,
      signature_style: '',
    },
    workloads: [
      workload('network', 'net', {
        ip_range: '10.1.0.0/16',
        subnet: '10.1.2.0/24',
        wireguard_private_key: 'a'.repeat(44),
        wireguard_listen_port: 6064,
        peers: [3, 4].map((i) => ({
          subnet: `10.1.${i}.0/24`,
          wireguard_public_key: 'b'.repeat(44),
          allowed_ips: [`10.1.${i}.0/24`, `100.64.1.${i}/32`],
          endpoint: '198.51.100.7:12000',
        })),
      }),
      workload('zmount', 'disk', { size: 10_737_418_240 }),
      workload('zmachine', 'vm', {
        flist: 'https://hub.example/ubuntu-22.04.flist',
        network: {
          public_ip: '',
          planetary: true,
          interfaces: [{ network: 'net', ip: '10.1.2.2' }],
        },
        size: 0,
        compute_capacity: { cpu: 2, memory: 2_147_483_648 },
        mounts: [{ name: 'disk', mountpoint: '/data' }],
        entrypoint: '/sbin/init',
        env: { SSH_KEY: `ssh-ed25519 ${'A'.repeat(68)} user@host`, MODE: 'live' },
        corex: false,
      }),
    ],
  })
}

function ed25519Signer() {
  const head = Buffer.from('302e020100300506032b657004220420', 'hex')
  const der = Buffer.concat([head, Buffer.alloc(32, 1)])
  const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
  const spki = createPublicKey(key).export({ format: 'der', type: 'spki' })
  const publicKey = Uint8Array.from(spki.subarray(-32))
  return { publicKey, signature: (message: Uint8Array) => new Uint8Array(sign(null, message, key)) }
}

function sr25519Signer() {
  const secret = secretFromSeed(new Uint8Array(32).fill(1))
  const publicKey = getPublicKey(secret)
  return { publicKey, signature: (message: Uint8Array) => signSr25519(secret, message) }
}

function times(count: number, work: () => unknown): void {
  for (let i = 0; i < count; i++) work()
}

async function inTurn(count: number, work: () => Promise<void>): Promise<void> {
  for (let i = 0; i < count; i++) await work()
}
