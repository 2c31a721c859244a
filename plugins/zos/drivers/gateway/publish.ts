import { connect } from 'node:net'
import { messageOf } from '../../../../src/errors.ts'
import { backendAddress } from '../../deployment/backends.ts'
import type { GatewayBackends } from '../../model.ts'
import { DriverError, type HealthCheck, type Task } from '../driver.ts'
import { type Guard, type OwnNetworks, ownNetworks } from '../guard.ts'
import {
  addressText,
  type BackendAddress,
  type GatewayBackEnd,
  type GatewayRoute,
} from './route.ts'

/** Who has which host name on this node; one for both types of gateways. */
export type Hosts = Map<string, string>

export interface Publisher {
  readonly backEnd: GatewayBackEnd
  readonly hosts: Hosts
  /** What is wrong with an address that a gateway is to lead to; see `createGuard`. */
  readonly guard: Guard
}

type GatewayType = 'gateway-name-proxy' | 'gateway-fqdn-proxy'

/** RFC 1035: section 2.3.4. */
const MAX_HOST = 253
const MAX_LABEL = 63

const HEALTH_MS = 2000

/**
 * Puts a route in force; nobody else on this node may have its host.
 *
 * @param others Hosts of other workloads, which may not have been brought up yet.
 * @throws {DriverError}
 */
export async function publish(
  { backEnd, hosts, guard }: Publisher,
  task: Task<GatewayType>,
  { host, kind }: Pick<GatewayRoute, 'host' | 'kind'>,
  hostOf: (data: Task<GatewayType>['workload']['data']) => string,
): Promise<void> {
  const own = ownNetworks(task)
  const backend = onlyBackend(task.workload.data, guard, own)
  assertHost(host)
  const { network } = task.workload.data
  if (network !== undefined && !task.network(network)) {
    throw new DriverError('failed', `failed to get user network: '${network}' does not run`)
  }
  if (isTaken(task, host, hosts, hostOf)) {
    throw new DriverError('failed', `domain already registered: ${host}`)
  }
  // Before anything is waited for, so that of two at the same time one is refused.
  const mine = hosts.has(host)
  hosts.set(host, task.id)
  const { tlsPassthrough } = task.workload.data
  try {
    await backEnd.set({ id: task.id, host, kind, tlsPassthrough, backend, own })
  } catch (cause) {
    if (!mine) hosts.delete(host)
    throw new DriverError('failed', `Cannot publish ${host}: ${messageOf(cause)}`, { cause })
  }
}

/** @throws {DriverError} */
export async function withdraw({ backEnd, hosts }: Publisher, id: string): Promise<void> {
  try {
    await backEnd.remove(id)
  } catch (cause) {
    throw new DriverError('failed', `Cannot withdraw gateway ${id}: ${messageOf(cause)}`, { cause })
  }
  for (const [host, owner] of hosts) if (owner === id) hosts.delete(host)
}

/** Removes routes whose workload is no more. */
export async function sweepRoutes(
  { backEnd }: Publisher,
  wanted: ReadonlySet<string>,
): Promise<void> {
  for (const id of await backEnd.ids()) if (!wanted.has(id)) await backEnd.remove(id)
}

/** Whether the route is in force, and somebody accepts connections behind it. */
export async function gatewayHealth(
  { backEnd }: Publisher,
  task: Task<GatewayType>,
): Promise<readonly HealthCheck[]> {
  const published = (await backEnd.ids()).includes(task.id)
  const route = published ? 'the route is in force' : 'there is no route'
  const checks: HealthCheck[] = [{ name: 'route', ok: published, message: route }]
  const backend = parseBackend(task.workload.data.backends[0] ?? '')
  if (backend) {
    const problem = await answers(backend)
    const message = problem ?? 'the backend accepts connections'
    checks.push({
      name: 'backend',
      ok: problem === undefined,
      message,
      evidence: addressText(backend),
    })
  }
  return checks
}

function onlyBackend(
  { backends }: GatewayBackends,
  guard: Guard,
  own: OwnNetworks,
): BackendAddress {
  const [text = '', ...more] = backends
  if (more.length > 0) {
    throw new DriverError('failed', `only one backend is supported, got ${backends.length}`)
  }
  const backend = parseBackend(text)
  const problem = backend ? guard(backend.host, own) : 'it is no address'
  if (backend && problem === undefined) return backend
  throw new DriverError('failed', `failed to validate backend '${text}': ${problem}`)
}

function parseBackend(text: string): BackendAddress | undefined {
  const address = backendAddress(text)
  const match = address === undefined ? null : /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(address)
  if (!match) return undefined
  const port = Number(match[3])
  return port > 65_535 || port === 0 ? undefined : { host: match[1] ?? match[2] ?? '', port }
}

function isTaken(
  task: Task<GatewayType>,
  host: string,
  hosts: Hosts,
  hostOf: (data: Task<GatewayType>['workload']['data']) => string,
): boolean {
  const owner = hosts.get(host)
  if (owner !== undefined) return owner !== task.id
  for (const { id, workload } of task.running()) {
    if (id === task.id || workload.type !== task.workload.type) continue
    if (hostOf(workload.data) === host) return true
  }
  return false
}

function assertHost(host: string): void {
  if (host.length <= MAX_HOST && host.split('.').every((label) => label.length <= MAX_LABEL)) return
  throw new DriverError('failed', `fqdn ${host} is invalid: it is too long for a domain name`)
}

function answers({ host, port }: BackendAddress): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host, port })
    const end = (problem: string | undefined) => {
      socket.destroy()
      resolve(problem)
    }
    socket.setTimeout(HEALTH_MS, () => end('the backend does not answer'))
    socket.once('connect', () => end(undefined))
    socket.once('error', (error) => end(`the backend cannot be reached: ${messageOf(error)}`))
  })
}
