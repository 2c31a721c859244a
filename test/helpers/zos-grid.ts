import { generateKeyPairSync, sign } from 'node:crypto'
import { renameSync, writeFileSync } from 'node:fs'
import { hashOf } from '../../plugins/zos/deployment/hash.ts'
import { readTrustedDeployment } from '../../plugins/zos/deployment/read.ts'
import { unixRequest } from './daemon.ts'
import type { WireWorkload } from './zos-deployment.ts'

export const NODE = 11
export const FARMER = 1
export const TWIN = 42

/** A contract as the registry document has it. */
export interface GridContract {
  readonly contract_id: number
  state: 'created' | 'grace_period' | 'deleted'
  deployment_hash: string
  readonly public_ips?: readonly { readonly ip: string; readonly gateway: string }[]
}

/** A twin with a key, its contracts, and the document that a node believes. */
export class Grid {
  readonly #path: string
  readonly #keys = generateKeyPairSync('ed25519')
  readonly contracts = new Map<number, GridContract>()
  /** Name contracts of the twin: name → id. */
  readonly names = new Map<string, number>()
  rent: number | null = null

  /** @param path Of the registry document. */
  constructor(path: string) {
    this.#path = path
    this.write()
  }

  /** The document as it is by now, by rename as the spec asks. */
  write(): void {
    const key = this.#keys.publicKey.export({ format: 'jwk' }).x ?? ''
    const nodes = [...this.contracts.values()].map((contract) => ({
      type: 'node',
      twin_id: TWIN,
      node_id: NODE,
      public_ips: [],
      ...contract,
    }))
    const names = [...this.names].map(([name, contract_id]) => ({
      contract_id,
      twin_id: TWIN,
      type: 'name',
      name,
      state: 'created',
    }))
    const document = {
      node: { id: NODE, twin_id: 17, farm_id: 1 },
      farm: { id: 1, twin_id: FARMER },
      twins: [
        {
          id: TWIN,
          key_type: 'ed25519',
          public_key: Buffer.from(key, 'base64url').toString('hex'),
          relay: null,
          pk: null,
        },
      ],
      contracts: [...nodes, ...names],
      rent_contract: this.rent,
      admin_twins: [],
    }
    writeFileSync(`${this.#path}.new`, JSON.stringify(document))
    renameSync(`${this.#path}.new`, this.#path)
  }

  /** A signed deployment, its contract written before, as clients do it. */
  signed(contract_id: number, workloads: readonly WireWorkload[], more: object = {}): string {
    const deployment = {
      version: 0,
      twin_id: TWIN,
      contract_id,
      metadata: '',
      description: '',
      expiration: 0,
      signature_requirement: {
        requests: [{ twin_id: TWIN, required: true, weight: 1 }],
        weight_required: 1,
        signatures: [] as object[],
        signature_style: '',
      },
      workloads,
      ...more,
    }
    const hash = hashOf(readTrustedDeployment(JSON.stringify(deployment)))
    const signature = sign(null, hash, this.#keys.privateKey).toString('hex')
    deployment.signature_requirement.signatures = [
      { twin_id: TWIN, signature, signature_type: 'ed25519' },
    ]
    const known = this.contracts.get(contract_id)
    const deployment_hash = Buffer.from(hash).toString('hex')
    this.contracts.set(contract_id, {
      state: 'created',
      ...known,
      contract_id,
      deployment_hash,
    })
    this.write()
    return JSON.stringify(deployment)
  }

  setState(contract_id: number, state: GridContract['state']): void {
    const contract = this.contracts.get(contract_id)
    if (!contract) throw new Error(`there is no contract ${contract_id}`)
    contract.state = state
    this.write()
  }
}

/** One command of a twin over the operator's socket. */
export async function ask(
  socket: string,
  command: string,
  payload: unknown = null,
  twin: number = TWIN,
): Promise<{ readonly status: number; readonly body: string; json<T>(): T }> {
  const answer = await unixRequest(socket, `/zos/${command}`, {
    method: 'POST',
    headers: { 'x-zos-twin': String(twin), 'content-type': 'application/json' },
    body: typeof payload === 'string' ? payload : JSON.stringify(payload),
  })
  return { ...answer, json: <T>() => JSON.parse(answer.body) as T }
}

export interface ShownWorkload {
  readonly name: string
  readonly type: string
  readonly version: number
  readonly result: {
    readonly state: string
    readonly message: string
    readonly data: Record<string, string> | null
  }
}

const WAIT_MS = 60_000

/**
 * Waits until the workloads of a deployment are in these states; says what they are when not.
 *
 * @param states By name; `ok@2` also asks for a version.
 */
export async function reaches(
  socket: string,
  contract_id: number,
  states: Readonly<Record<string, string>>,
): Promise<readonly ShownWorkload[]> {
  const deadline = performance.now() + WAIT_MS
  for (;;) {
    const answer = await ask(socket, 'zos.deployment.get', { contract_id })
    const { workloads = [] } = answer.json<{ workloads?: ShownWorkload[] }>()
    const as = ({ name, version, result }: ShownWorkload) =>
      states[name]?.includes('@') ? `${result.state}@${version}` : result.state
    const now = Object.fromEntries(workloads.map((one) => [one.name, as(one)]))
    if (JSON.stringify(now) === JSON.stringify(states)) return workloads
    if (performance.now() > deadline) {
      const all = workloads.map(({ name, result }) => `${name}: ${result.state} ${result.message}`)
      throw new Error(`not ${JSON.stringify(states)} but ${answer.status} ${all.join('; ')}`)
    }
    await new Promise((tick) => setTimeout(tick, 100))
  }
}

/** Waits until a deployment and its history are no more. */
export async function isErased(socket: string, contract_id: number): Promise<void> {
  const deadline = performance.now() + WAIT_MS
  for (;;) {
    const answer = await ask(socket, 'zos.deployment.get', { contract_id })
    if (answer.status === 404) return
    if (performance.now() > deadline) throw new Error(`still there: ${answer.body}`)
    await new Promise((tick) => setTimeout(tick, 100))
  }
}
