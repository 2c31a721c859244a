import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { readTrustedDeployment } from '../../plugins/zos/deployment/read.ts'
import type { Deployment, Workload } from '../../plugins/zos/model.ts'
import { lacks } from './counterpart.ts'
import { vectors } from './vectors.ts'

/** A file of the shared vectors; undefined, with the test skipped, where they are not there. */
export function zosVectors<T>(t: TestContext, name: string): T | undefined {
  const folder = vectors('zos')
  if (lacks(t, 'vectors', folder !== undefined)) return undefined
  return JSON.parse(readFileSync(join(folder as string, `${name}.json`), 'utf8'))
}

export type WireWorkload = Record<string, unknown>

/** One workload as a client sends it. */
export function wireWorkload(type: string, data: unknown, more: WireWorkload = {}): WireWorkload {
  return { version: 0, name: 'w', type, data, metadata: '', description: '', ...more }
}

/** Text of a deployment of twin 42 as a client sends it. */
export function wireDeployment(workloads: unknown, more: object = {}): string {
  return JSON.stringify({
    version: 0,
    twin_id: 42,
    contract_id: 8955,
    metadata: 'm',
    description: 'd',
    expiration: 0,
    signature_requirement: {
      requests: [{ twin_id: 42, required: false, weight: 1 }],
      weight_required: 1,
      signatures: [],
      signature_style: '',
    },
    workloads,
    ...more,
  })
}

/** Data of one workload of each type that keeps all rules; zlogs needs the zmachine beside it. */
export const VALID_DATA: Readonly<Record<Workload['type'], object>> = {
  zmount: { size: 10 },
  volume: { size: 10 },
  qsfs: { cache: 1, config: { minimal_shards: 1, expected_shards: 2 } },
  network: {
    ip_range: '10.1.0.0/16',
    subnet: '10.1.2.0/24',
    wireguard_private_key: 'k',
    wireguard_listen_port: 7000,
    peers: [
      {
        subnet: '10.1.3.0/24',
        wireguard_public_key: 'p',
        allowed_ips: ['10.1.3.0/24'],
        endpoint: '',
      },
    ],
  },
  'network-light': { subnet: '10.1.2.0/24', mycelium: { hex_key: 'ab'.repeat(32), peers: [] } },
  ipv4: {},
  ip: { v4: true },
  zmachine: machine({ public_ip: '', planetary: true }),
  'zmachine-light': machine({}),
  zlogs: { zmachine: 'zmachine', output: 'redis://10.1.2.3:6379/logs' },
  zdb: { size: 1, mode: 'seq', password: 'p', public: false },
  'gateway-name-proxy': { name: 'shop', tls_passthrough: false, backends: ['http://10.1.2.3'] },
  'gateway-fqdn-proxy': { fqdn: 'a.example.com', tls_passthrough: true, backends: ['10.1.2.3:1'] },
}

function machine(network: object) {
  return {
    flist: 'https://hub.example/x.flist',
    network: { ...network, interfaces: [{ network: 'net1', ip: '10.1.2.2' }] },
    size: 0,
    compute_capacity: { cpu: 1, memory: 2 ** 30 },
    mounts: [{ name: 'disk', mountpoint: '/data' }],
    entrypoint: '/init',
    env: { B: '2', A: '1' },
    corex: false,
  }
}

/** A deployment with one workload of every type, each named after its type. */
export function everyType(version = 0): string {
  const workloads = Object.entries(VALID_DATA).map(([type, data]) =>
    wireWorkload(type, data, { name: type.replaceAll('-', '_'), version }),
  )
  return wireDeployment(workloads, { version })
}

/** Reads a deployment without its rules. */
export function trusted(workloads: unknown, more: object = {}): Deployment {
  return readTrustedDeployment(wireDeployment(workloads, more))
}

/** The message and kind of what a function throws, which has to be a `ZosError`. */
export function refusal(work: () => unknown): { kind: string; message: string } | undefined {
  try {
    work()
    return undefined
  } catch (error) {
    return described(error)
  }
}

export async function refusalOf(work: Promise<unknown>) {
  return work.then(() => undefined, described)
}

function described(error: unknown): { kind: string; message: string } {
  const { name, kind, message } = error as { name: string; kind: string; message: string }
  assert.equal(name, 'ZosError', String((error as Error).stack))
  return { kind, message }
}
