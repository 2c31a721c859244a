import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import * as sr25519 from '@scure/sr25519'
import { createCommands } from '../../plugins/zos/commands/create-commands.ts'
import type { CommandParts } from '../../plugins/zos/commands/parts.ts'
import { hashOf } from '../../plugins/zos/deployment/hash.ts'
import { readDeployment } from '../../plugins/zos/deployment/read.ts'
import { verifySignatures } from '../../plugins/zos/deployment/signatures.ts'
import { printJson } from '../../plugins/zos/json/print.ts'
import type { WorkloadType } from '../../plugins/zos/model.ts'
import type { NodeFactsOptions } from '../../plugins/zos/node/create-node-facts.ts'
import type { NodeFacts } from '../../plugins/zos/node/facts.ts'
import { createDeployments } from '../../plugins/zos/provision/create-deployments.ts'
import type { Deployments } from '../../plugins/zos/provision/deployments.ts'
import { createFileRegistry, type FileRegistry } from '../../plugins/zos/registry/file-registry.ts'
import { ZosError } from '../../plugins/zos/zos-error.ts'
import { toHex } from '../../src/attest/hex.ts'
import { NO_GPUS } from '../../src/gpu/none.ts'
import { ed25519Key, ed25519Signer, publicBytes, type Sign } from './zos-auth.ts'
import { interfaces, type Machine, machineRoot, nodeFacts } from './zos-node.ts'
import { FakeDriver, inTime, type Plan } from './zos-provision.ts'

export const OWNER = 42
export const OTHER = 43
export const FARMER = 2
export const ADMIN = 77

/** Above 2^53, and odd: no number holds it. */
export const BIG = 18_446_744_073_709_551_557n

const ED_KEY = ed25519Key(1)
const SR_KEY = sr25519.secretFromSeed(new Uint8Array(32).fill(3))

/** Of the twins that have keys: the owner's Ed25519 and the other's sr25519. */
export const SIGNERS: Readonly<Record<number, { type: 'ed25519' | 'sr25519'; sign: Sign }>> = {
  [OWNER]: { type: 'ed25519', sign: ed25519Signer(ED_KEY) },
  [OTHER]: { type: 'sr25519', sign: (message) => sr25519.sign(SR_KEY, message) },
}

const TWINS = [
  { id: OWNER, key_type: 'ed25519', public_key: toHex(publicBytes(ED_KEY)) },
  { id: OTHER, key_type: 'sr25519', public_key: toHex(sr25519.getPublicKey(SR_KEY)) },
]

export type ContractEntry = Readonly<Record<string, unknown>>

/** A registry document with these contracts. */
export function registryText(contracts: readonly ContractEntry[], more: object = {}): string {
  return printJson({
    node: { id: 11, twin_id: 17, farm_id: 1 },
    farm: { id: 1, twin_id: FARMER },
    twins: TWINS,
    contracts,
    rent_contract: null,
    admin_twins: [ADMIN],
    ...more,
  })
}

/** The contract that a deployment needs. */
export function contractOf(text: string, state = 'created', more: object = {}): ContractEntry {
  const deployment = readDeployment(text)
  return {
    contract_id: deployment.contractId,
    twin_id: deployment.twinId,
    node_id: 11,
    type: 'node',
    deployment_hash: toHex(hashOf(deployment)),
    state,
    public_ips: [],
    ...more,
  }
}

export interface ApiPlan extends Plan {
  readonly metadata?: string
}

export interface Shape {
  readonly twinId?: number
  readonly contractId?: bigint
  readonly version?: number
  readonly metadata?: string
  readonly style?: '' | 'polka-wallet'
}

/** Text of a deployment as a client sends it, signed by its twin. */
export function signedDeployment(workloads: readonly ApiPlan[], shape: Shape = {}): string {
  const { twinId = OWNER, contractId = BIG, version = 0, metadata = '', style = '' } = shape
  const wire = (signatures: readonly object[]) =>
    printJson({
      version,
      twin_id: twinId,
      contract_id: contractId,
      metadata,
      description: 'd',
      expiration: 7,
      signature_requirement: {
        requests: [{ twin_id: twinId, required: false, weight: 9_007_199_254_740_993n }],
        weight_required: 9_007_199_254_740_993n,
        signatures,
        signature_style: style,
      },
      workloads: workloads.map((plan) => ({
        version: plan.version ?? 0,
        name: plan.name,
        type: plan.type,
        data: plan.data,
        metadata: plan.metadata ?? '',
        description: '',
      })),
    })
  const hash = hashOf(readDeployment(wire([])))
  const message = style === '' ? hash : new TextEncoder().encode(`<Bytes>${toHex(hash)}</Bytes>`)
  const signer = SIGNERS[twinId]
  if (!signer) return wire([])
  const signature = toHex(signer.sign(message))
  return wire([{ twin_id: twinId, signature, signature_type: signer.type }])
}

/** Commands over a registry, deployments and facts that are real; the drivers are fakes. */
export interface ApiNode {
  readonly registry: FileRegistry
  readonly deployments: Deployments
  readonly facts: NodeFacts
  readonly events: readonly string[]
  readonly drivers: ReadonlyMap<WorkloadType, FakeDriver>
  readonly names: readonly string[]
  classOf(command: string): string | undefined
  /** Replaces the contracts of the registry. */
  agree(contracts: readonly ContractEntry[], more?: object): Promise<void>
  /** Agrees on a deployment, deploys it, waits for the end of the work. */
  deploy(text: string): Promise<void>
  /** The reply as JSON text. */
  call(command: string, payload?: string, twin?: number): Promise<string>
  /** How a call is refused: `kind: message`. */
  refused(command: string, payload?: string, twin?: number): Promise<string>
}

export interface ApiOptions {
  readonly machine?: Machine
  readonly facts?: Partial<NodeFactsOptions>
  readonly parts?: Partial<CommandParts>
  /** Leaves the registry without a document. */
  readonly empty?: boolean
}

const TYPES = [
  'zmount',
  'volume',
  'network',
  'ip',
  'ipv4',
  'zmachine',
  'zdb',
  'zlogs',
  'qsfs',
] as const

/** 2023-11-14 22:13:20. */
export const NOW = 1_700_000_000

const SERVER = {
  br0: ['203.0.113.10/24', '2001:db8::10/64'],
  eno2: ['192.168.254.9/24'],
  docker0: ['172.17.0.1/16'],
}

export async function apiNode(t: TestContext, options: ApiOptions = {}): Promise<ApiNode> {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-zos-api-'))
  const registry = createFileRegistry({ path: join(folder, 'registry.json'), pollMs: 60_000 })
  await registry.start()
  const events: string[] = []
  const drivers = new Map(TYPES.map((type) => [type, new FakeDriver(type)] as const))
  const { facts } = nodeFacts(t, {
    root: machineRoot(t, options.machine ?? 'server'),
    interfaces: interfaces(SERVER),
    taskDelayMs: 0,
    workloadPorts: () => listenPorts(deployments),
    ...options.facts,
  })
  const log = () => undefined
  const deployments = createDeployments({
    registry,
    drivers,
    stateFolder: join(folder, 'deployments'),
    verify: (deployment) =>
      verifySignatures(deployment, {
        keyOf: async (id) => {
          const twin = await registry.twin(id)
          if (!twin) throw new Error('twin not found')
          return twin.publicKey
        },
        strict: false,
      }),
    events: { append: (message) => void events.push(message) as never },
    log: { debug: log, info: log, warn: log, error: log },
    now: () => NOW * 1000,
    times: { contract: 20, contractAgain: 10, retry: [20] },
  })
  await deployments.start()
  t.after(async () => {
    await deployments.stop()
    await registry.stop()
    rmSync(folder, { recursive: true, force: true })
  })
  const commands = createCommands({
    deployments,
    check: {},
    facts,
    registry,
    gpus: NO_GPUS,
    gpuClasses: 'all',
    features: () => ['zmount', 'volume'],
    modules: () => [],
    ...options.parts,
  })
  let contracts: readonly ContractEntry[] = []
  const agree = async (next: readonly ContractEntry[], more: object = {}) => {
    contracts = next
    await registry.replace(registryText(next, more))
  }
  if (!options.empty) await agree([])
  const call = (command: string, payload = '', twin?: number) =>
    inTime(
      commands.dispatch({ command, payload, twin, signal: new AbortController().signal }),
      `answer ${command}`,
    )
  return {
    registry,
    deployments,
    facts,
    events,
    drivers,
    names: commands.names(),
    classOf: commands.classOf,
    agree,
    call,
    async deploy(text) {
      const contract = contractOf(text)
      const others = contracts.filter(({ contract_id }) => contract_id !== contract.contract_id)
      await agree([...others, contract])
      await call('zos.deployment.deploy', text, readDeployment(text).twinId)
      await inTime(deployments.idle(), 'come to rest')
    },
    async refused(command, payload, twin) {
      try {
        return `answered: ${await call(command, payload, twin)}`
      } catch (error) {
        if (!(error instanceof ZosError)) throw error
        return `${error.kind}: ${error.message}`
      }
    },
  }
}

function* listenPorts(deployments: Deployments): Generator<number> {
  for (const { workload } of deployments.running()) {
    if (workload.type === 'network') yield workload.data.wireguardListenPort
  }
}

/** Different for each place, and never by chance in an answer. */
export function canary(place: string): string {
  return `canary${createHash('sha256').update(place).digest('hex').slice(0, 24)}`
}
