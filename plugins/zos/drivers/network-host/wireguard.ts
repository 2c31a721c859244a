import { rm, writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { lastingArgv } from '../../../../src/process/lasting-argv.ts'
import { DriverError } from '../driver.ts'
import type { HostCommands } from '../host-commands.ts'
import { findLink, ipIn, removeLink, rows, setAddress } from './links.ts'
import type { NetworkNames, WireguardPlan } from './plan.ts'
import { wireguardConfig } from './wireguard-text.ts'

const ATTEMPTS = 30
const PAUSE_MS = 100

/** Why there is no WireGuard; undefined when there is. Makes an interface and removes it again. */
export async function wireguardProblem(
  host: HostCommands,
  probeName: string,
): Promise<string | undefined> {
  const tool = await host.run('wg', '--version')
  if (!tool.ok) return `${tool.problem}; install wireguard-tools`
  const made = await makeLink(host, probeName)
  await removeLink(host, probeName).catch(() => {})
  return made
}

/**
 * Makes or renews the WireGuard interface of a network. It is made on the host, where its UDP socket
 * then stays, and moved into the namespace.
 *
 * @param configPath A file for the time of the call, with the private key in it; mode 0600.
 * @throws {DriverError} `failed`
 */
export async function applyWireguard(
  host: HostCommands,
  names: NetworkNames,
  plan: WireguardPlan,
  configPath: string,
): Promise<void> {
  const { namespace, wireguard: name } = names
  if ((await findLink(host, name, namespace)) === undefined) {
    // One that was left before it was moved.
    await removeLink(host, name)
    const problem = await makeLink(host, name)
    if (problem !== undefined)
      throw new DriverError('failed', `Cannot make WireGuard interface: ${problem}`)
    const move = ['ip', 'link', 'set', 'dev', name, 'netns', namespace]
    await host.must(`move interface "${name}" into its namespace`, ...move)
  }
  await configure(host, names, plan, configPath)
  await setAddress(host, name, plan.address, namespace).catch((error) => {
    throw portTaken(error, plan)
  })
  await setRoutes(host, names, plan)
}

async function configure(
  host: HostCommands,
  { namespace, wireguard: name }: NetworkNames,
  plan: WireguardPlan,
  path: string,
): Promise<void> {
  await rm(path, { force: true })
  try {
    await writeFile(path, wireguardConfig(plan), { mode: 0o600, flag: 'wx' })
    const wg = ['ip', 'netns', 'exec', namespace, 'wg', 'syncconf', name, path]
    await host.must(`configure WireGuard interface "${name}"`, ...wg)
  } catch (error) {
    throw portTaken(error, plan)
  } finally {
    await rm(path, { force: true })
  }
}

function portTaken(error: unknown, { listenPort }: WireguardPlan): unknown {
  const taken = error instanceof Error && /address (already )?in use/i.test(error.message)
  if (!taken) return error
  const message = `Cannot listen on WireGuard port ${listenPort}: it is in use on this node`
  return new DriverError('failed', message, { cause: error })
}

async function setRoutes(
  host: HostCommands,
  { namespace, wireguard: name }: NetworkNames,
  { routes }: WireguardPlan,
): Promise<void> {
  const ip = ipIn(namespace)
  const action = `set the routes of interface "${name}"`
  const text = await host.must(action, ...ip, '-j', '-4', 'route', 'show', 'dev', name)
  for (const { dst, protocol } of rows<{ dst?: string; protocol?: string }>(text)) {
    if (dst === undefined || protocol === 'kernel') continue
    // A host route is shown without its prefix.
    const network = dst.includes('/') ? dst : `${dst}/32`
    if (!routes.includes(network)) await host.run(...ip, 'route', 'del', network, 'dev', name)
  }
  for (const route of routes) {
    await host.must(action, ...ip, 'route', 'replace', route, 'dev', name)
  }
}

/** By the kernel, or by `wireguard-go` where the kernel has none. Answers why it failed. */
async function makeLink(host: HostCommands, name: string): Promise<string | undefined> {
  const kernel = await host.run('ip', 'link', 'add', 'dev', name, 'type', 'wireguard')
  if (kernel.ok) return undefined
  const version = await host.run('wireguard-go', '--version')
  if (version.errno === 'ENOENT') {
    return `${kernel.problem}; load the kernel module "wireguard" or install wireguard-go`
  }
  if (!version.ok) return version.problem
  const userspace = await host.run(...lastingArgv(['wireguard-go', name]))
  return userspace.ok ? answers(host, name) : userspace.problem
}

/** wireguard-go goes on in the background, and ends when its interface is moved before it is ready. */
async function answers(host: HostCommands, name: string): Promise<string | undefined> {
  for (let attempt = 1; ; attempt++) {
    const end = await host.run('wg', 'show', name)
    if (end.ok) return undefined
    if (attempt === ATTEMPTS) return `wireguard-go does not answer: ${end.problem}`
    await sleep(PAUSE_MS)
  }
}
