import { join } from 'node:path'
import type { Context } from 'hono'
import { peerGroup } from '../../../src/auth/throttle.ts'
import { messageOf } from '../../../src/errors.ts'
import type { Exchange } from '../../../src/http/exchange.ts'
import type { PluginContext, PluginEnv } from '../../../src/plugin.ts'
import { VERSION } from '../../../src/version.ts'
import { createAuthenticator } from '../auth/authenticator.ts'
import type { Commands } from '../commands/command.ts'
import { createCommands } from '../commands/create-commands.ts'
import { type Config, isNode } from '../config.ts'
import { verifySignatures } from '../deployment/signatures.ts'
import { type BoardNews, DriverBoard } from '../drivers/board.ts'
import type { RegistryDocument } from '../http/routes.ts'
import { createNodeFacts } from '../node/create-node-facts.ts'
import type { Registry } from '../registry/registry.ts'
import { type RenewedDeployments, renewedDeployments } from './deployments.ts'
import { offeredDrivers } from './drivers.ts'
import { gpuClaims } from './gpu-claims.ts'
import { measured } from './metrics.ts'
import { ownerOf } from './owner.ts'
import { openRegistry } from './registry.ts'

export type ZosContext = Pick<
  PluginContext<Config, 'gpus' | 'daemon'>,
  'config' | 'services' | 'stateDir' | 'events' | 'metrics' | 'log' | 'device'
>

/** The grid node at work. */
export interface Zos {
  readonly commands: Commands
  readonly document: RegistryDocument | undefined
  /** By its configuration, or because a registry is in force. */
  isNode(): boolean
  /** The twin that sends a request; undefined when it does not say. */
  twinOf(c: Context<PluginEnv>, once: boolean): Promise<number | undefined>
  notReady(): string | undefined
  stop(): Promise<void>
}

const BENCHMARK_MS = 6 * 3_600_000

/** Something that was started and is to be stopped, the last one first. */
type Stop = () => Promise<void>

/**
 * Puts the rooms of the plugin together and starts them.
 *
 * @throws {Error} When the configuration cannot work, or state cannot be read; nothing runs then.
 */
export async function startZos(context: ZosContext): Promise<Zos> {
  const stops: Stop[] = []
  const stop = async () => {
    for (const one of stops.splice(0).reverse()) await one()
  }
  try {
    return { ...(await build(context, stops)), stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function build(context: ZosContext, stops: Stop[]): Promise<Omit<Zos, 'stop'>> {
  const { config, services, stateDir, events, metrics, log } = context
  const warn = (text: string) => events.append(text, { level: 'warn' })

  const { registry, document } = await openRegistry({
    config,
    stateDir,
    report: (problem) => {
      if (problem === undefined) events.append('the registry can be used again')
      else warn(`the registry cannot be used: ${problem}`)
    },
  })
  await registry.start()
  stops.push(() => registry.stop())

  const dataDir = config.data_dir ?? join(stateDir, 'data')
  const claims = gpuClaims(services.gpus)
  const owner = await ownerOf(stateDir)
  let renew = () => {}
  const board = new DriverBoard({
    candidates: await offeredDrivers({ config, dataDir, stateDir, owner, gpus: claims, warn }),
    againMs: config.probe_interval_s * 1000,
    told: (news) => {
      tell(news, context)
      if (news.probe.able) renew()
    },
  })
  await board.start()
  stops.push(() => board.stop())

  let deployments: RenewedDeployments | undefined
  const running = () => deployments?.running() ?? []
  const facts = createNodeFacts({
    root: context.device.path('/'),
    dataFolders: [{ path: dataDir, ...(config.data_type && { type: config.data_type }) }],
    stateFolder: join(stateDir, 'node'),
    version: VERSION,
    publicConfig: config.public_config,
    location: config.location,
    nicHook: config.nic_hook,
    workloadPorts: () => listenPorts(running()),
    workloads: () => [...running()].length,
    ...(config.cpu_benchmark && { benchmarkIntervalMs: BENCHMARK_MS }),
    log,
  })
  await facts.start()
  stops.push(() => facts.stop())

  const check = { referenceSlips: config.reference_slips }
  deployments = renewedDeployments(
    {
      registry,
      stateFolder: join(stateDir, 'deployments'),
      verify: (deployment) =>
        verifySignatures(deployment, {
          keyOf: (twin) => keyOf(registry, twin),
          strict: config.strict_signatures,
        }),
      ...(await kycOf(config)),
      check,
      facts,
      events,
      log,
      times: { sync: config.sync_interval_s * 1000 },
    },
    board,
  )
  await deployments.start()
  stops.push(async () => deployments?.stop())
  renew = () => {
    deployments?.renew().catch((error) => warn(messageOf(error)))
  }

  const all = createCommands({
    deployments,
    check,
    facts,
    registry,
    gpus: services.gpus,
    gpuClasses: config.gpu_classes,
    features: () => board.features(),
    modules: () => services.daemon.plugins(),
  })
  const commands = measured(all, deployments, metrics)
  const transports = await startTransports({ config, commands, registry, events, metrics, log })
  stops.push(...transports.map((one) => () => one.stop()))

  const authenticator = createAuthenticator({
    registry,
    trustTwinHeader: config.trust_twin_header,
  })
  return {
    commands,
    document,
    isNode: () => isNode(config) || registry.notReady() === undefined,
    twinOf: (c, once) =>
      authenticator.authenticate({
        header: (name) => c.req.header(name),
        unixSocket: c.env.peer().address === 'unix',
        peer: peerGroup(c.env as Exchange),
        once,
        signal: c.req.raw.signal,
      }),
    notReady: () => {
      // A daemon that nobody made a grid node of lacks nothing.
      const wanted = config.registry !== undefined || config.chain_url !== undefined
      const reasons = [wanted ? registry.notReady() : undefined]
      reasons.push(...transports.map((one) => one.notReady()))
      return reasons.find((reason) => reason !== undefined)
    },
  }
}

function tell({ type, driver, probe }: BoardNews, { events, log }: ZosContext): void {
  if (!probe.able) log.info(`${type} is not offered by "${driver}": ${probe.reason}`)
  else if (probe.warning !== undefined) {
    events.append(`${type} by "${driver}": ${probe.warning}`, { level: 'warn' })
  } else log.debug(`${type} is offered by "${driver}"`)
}

function* listenPorts(running: ReturnType<RenewedDeployments['running']>): Generator<number> {
  for (const { workload } of running) {
    if (workload.type !== 'network' && workload.type !== 'network-light') continue
    if (workload.data.wireguardListenPort > 0) yield workload.data.wireguardListenPort
  }
}

async function keyOf(registry: Registry, id: number): Promise<Uint8Array> {
  const twin = await registry.twin(id)
  if (twin) return twin.publicKey
  throw new Error('twin not found')
}

async function kycOf({ kyc_url }: Config) {
  if (kyc_url === undefined) return {}
  const { createKyc } = await import('../kyc/create-kyc.ts')
  const { check } = createKyc({ url: new URL(kyc_url) })
  return { kyc: check }
}

/** A way on which commands come beside HTTP. */
interface Transport {
  notReady(): string | undefined
  stop(): Promise<void>
}

async function startTransports(
  parts: Pick<ZosContext, 'config' | 'events' | 'metrics' | 'log'> & {
    readonly commands: Commands
    readonly registry: Registry
  },
): Promise<readonly Transport[]> {
  const { config, ...rest } = parts
  const started: Transport[] = []
  if (config.bus !== undefined) {
    const { createBus } = await import('../bus/bus.ts')
    const url = new URL(config.bus)
    if (config.bus_password) url.password = encodeURIComponent(config.bus_password.read())
    const bus = createBus({ ...rest, url: url.href })
    bus.start()
    started.push(bus)
  }
  if (config.relay) {
    const { urls, identity, key_type } = config.relay
    const { createIdentity } = await import('../rmb/identity.ts')
    const { createRelayClient } = await import('../relay/client.ts')
    const relay = createRelayClient({
      ...rest,
      urls,
      identity: createIdentity(identity.read(), key_type),
      twinId: (await rest.registry.node()).twinId,
    })
    relay.start()
    started.push(relay)
  }
  return started
}
