import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { Hono } from 'hono'
import type { Attester } from '../../src/attester/attester.ts'
import { ApiError, messageOf } from '../../src/errors.ts'
import { makeFolder } from '../../src/files/make-folder.ts'
import { definePlugin, type PluginEnv, type Requirement } from '../../src/plugin.ts'
import { route } from '../../src/route.ts'
import { Access } from './api/access.ts'
import { notFoundPage } from './api/answers.ts'
import { deviceRoutes } from './api/device-routes.ts'
import { renderError } from './api/errors.ts'
import { operatorRoutes } from './api/operator.ts'
import { type ApiParts, deviceName, keyed } from './api/parts.ts'
import { remoteRoutes } from './api/remote.ts'
import type { ComposeContext } from './compose/context.ts'
import { Config } from './config.ts'
import type { DeviceAddresses } from './host/addresses.ts'
import type { DeviceInfo } from './host/device-info.ts'
import { type Identity, readBoot, readIdentity, runningHostname } from './identity.ts'
import { openMaster } from './keys/master.ts'
import { SupervisorKeys } from './keys/supervisor-keys.ts'
import { Locks } from './locks/locks.ts'
import { createMachine } from './machine.ts'
import { permissions } from './permissions.ts'
import type { Supervisor, SupervisorOptions } from './supervisor.ts'

/** Name of the runtime event that measures a target. */
const MEASURED_AS = 'supervisor-target'

const WILDCARDS: ReadonlySet<string> = new Set(['', '0.0.0.0', '::'])

/**
 * The plugin around the job.
 *
 * @param create Makes the job; opens nothing before its `start`.
 */
export function supervisorPlugin(
  create: (options: SupervisorOptions) => Supervisor | Promise<Supervisor>,
) {
  return definePlugin({
    name: 'supervisor',
    summary: "Runs containers as a target state says, with the API of balena's supervisor",
    config: Config,
    requires: ({ engine_socket, measure_target }) => {
      const engine = `path:${engine_socket}` as Requirement
      return measure_target ? { all: [engine, { any: ['tdx', 'nsm'] }] } : engine
    },
    waits: true,
    uses: ({ measure_target }) => (measure_target ? (['attestation'] as const) : []),
    exposure: 'network',
    home: 'own',
    auth: 'own',
    addresses: ({ host, port, network }) => {
      const own = { address: `${host.includes(':') ? `[${host}]` : host}:${port}` }
      const reached = WILDCARDS.has(host) || host === network.gateway || !network.listen
      return reached ? [own] : [own, { address: `${network.gateway}:${port}`, late: true }]
    },
    permissions,
    renderError,

    setup({ config, services, stateDir, events, log }) {
      let identity: Identity | undefined
      let supervisor: Supervisor | undefined
      let info: DeviceInfo | undefined
      let addresses: DeviceAddresses | undefined
      let maskKey: Uint8Array | undefined
      let unsubscribe: () => void = () => undefined
      const machine = createMachine(
        config,
        stateDir,
        () => started(identity).uuid,
        (message) => events.append(message, { level: 'warn' }),
      )
      const keys = new SupervisorKeys({
        folder: stateDir,
        get master() {
          return config.master && masterIn(config.master.read())
        },
      })
      const access = new Access({
        verify: (key) => keys.verify(key),
        open: () => config.authentication === 'unless-local' && started(supervisor).localMode,
        capabilities: config.capabilities,
        onRefused: (from) => events.append(`wrong API key from ${from}`, { level: 'warn' }),
      })
      const parts: ApiParts = {
        get supervisor() {
          return started(supervisor)
        },
        get device() {
          return started(identity)
        },
        keys,
        access,
        host: machine,
        events,
        port: config.port,
        version: config.reported_version,
        strict: config.machine.strict,
      }
      const context = (): ComposeContext => ({
        device: {
          uuid: parts.device.uuid,
          name: deviceName(parts),
          ...hostnameNow(),
          type: info?.deviceType ?? '',
          arch: info?.arch ?? '',
          osVersion: info?.osVersion ?? '',
        },
        api: { port: config.port, keyOf: (appId, service) => keys.keyOf({ appId, service }) },
        gateway: config.network.gateway,
        lockRoot: config.lock_dir,
        engineSocket: config.engine_socket,
        allowEngineSocket: config.allow_engine_socket,
        hostHas: (path) => existsSync(join(config.machine.root, path)),
        ...(maskKey && { maskKey }),
      })
      /** Keys open something only while there is a service that has them. */
      const retainKeys = () => {
        keys.retain(
          parts.supervisor
            .apps()
            .flatMap(({ appId, services: all }) =>
              all.map(({ serviceName }) => ({ appId, service: serviceName })),
            ),
        )
      }
      const reported = () => {
        machine.addresses.get().then((found) => {
          addresses = found
        })
        return {
          name: deviceName(parts),
          api_port: config.port,
          supervisor_version: config.reported_version,
          os_version: info?.osVersion,
          os_variant: info?.osVariant,
          ip_address: addresses?.ip,
          mac_address: addresses?.mac,
        }
      }

      const routes = new Hono<PluginEnv>()
        .route('/', deviceRoutes(parts))
        .route('/', operatorRoutes(parts))
        .route(
          '/',
          remoteRoutes({
            parts,
            peers: Object.entries(config.peers).map(([uuid, { url, key, device_id, app_ids }]) => ({
              uuid,
              deviceId: device_id,
              appIds: app_ids,
              url,
              key: () => key.read(),
            })),
            timeoutMs: config.remote_timeout_s * 1000,
          }),
        )
        .all(
          '*',
          route({ summary: 'Unknown paths: 401 without a key, else 404', listener: 'own' }),
          keyed(parts, (c) => notFoundPage(c.req.method, c.req.path)),
        )

      return {
        routes,
        async start() {
          identity = await readIdentity(stateDir, config.device)
          info = await machine.info()
          addresses = await machine.addresses.get()
          maskKey = (await openMaster(join(stateDir, 'mask-key'))).secret
          if (await keys.open()) events.append('made the secret of the API keys')
          await machine.tags.load()
          // A read-only boot partition is no reason not to run containers.
          await machine.hostConfig.start().catch((error) => log.warn(messageOf(error)))
          const boot = await readBoot()
          const folder = join(stateDir, 'state')
          makeFolder(folder, 0o700)
          const { openEngine } = await import('../../src/engine/engine.ts')
          supervisor = await create({
            engine: openEngine({ socketPath: config.engine_socket }),
            locks: new Locks({
              root: config.lock_dir,
              onProblem: (error) => events.append(error.message, { level: 'warn' }),
            }),
            context,
            stateFolder: folder,
            events,
            deviceUuid: identity.uuid,
            bootId: boot.id,
            bootTime: boot.time,
            facts: factsOf(info, config.reported_version),
            requireDigest: config.require_digest,
            strict: config.strict,
            replaceVolumes: config.replace_volumes,
            subnet: { subnet: config.network.subnet, gateway: config.network.gateway },
            credentialsOf: async (registry) => {
              const found = config.registries[registry]
              return found && { username: found.username, password: found.password.read() }
            },
            ...(config.measure_target && {
              measureTarget: (digest) => measure(services.attestation, digest, config.measure_pcr),
            }),
            ...(config.rollback && {
              trial: {
                stableMs: config.rollback.stable_s * 1000,
                timeoutMs: config.rollback.timeout_s * 1000,
              },
            }),
            ...(config.local_mode !== undefined && { localMode: config.local_mode }),
            ...(config.target_file !== undefined && { targetFile: config.target_file }),
            ...(config.target_url && { targetUrl: fetched(config.target_url) }),
            ...(config.report && { report: { ...fetched(config.report), device: reported } }),
          })
          await supervisor.start()
          retainKeys()
          unsubscribe = supervisor.onChange(retainKeys)
        },
        async stop() {
          unsubscribe()
          machine.power.stop()
          await Promise.all([machine.led.stop(), machine.journal.stop(), supervisor?.stop()])
          keys.close()
          maskKey?.fill(0)
        },
        notReady: () => supervisor?.notReady(),
      }
    },
  })
}

function hostnameNow(): { hostname?: string } {
  const hostname = runningHostname()
  return hostname === undefined ? {} : { hostname }
}

function started<T>(value: T | undefined): T {
  if (value !== undefined) return value
  throw new ApiError(503, 'SUPERVISOR_NOT_STARTED', 'The supervisor is not started')
}

/** @throws {Error} Unless it is 64 hex digits; the message does not repeat it. */
function masterIn(text: string): Uint8Array {
  if (/^[0-9a-fA-F]{64}$/.test(text)) return new Uint8Array(Buffer.from(text, 'hex'))
  throw new Error(
    'Cannot use the secret of the API keys: "master" must name a file of 64 hex digits',
  )
}

function fetched(source: {
  readonly url: string
  readonly token?: { read(): string } | undefined
  readonly interval_s?: number | undefined
}) {
  const { url, token, interval_s } = source
  return {
    url,
    ...(token && { token: async () => token.read() }),
    ...(interval_s !== undefined && { intervalMs: interval_s * 1000 }),
  }
}

function factsOf(info: DeviceInfo, version: string): NonNullable<SupervisorOptions['facts']> {
  return {
    'sw.supervisor': { version },
    'hw.device-type': { slug: info.deviceType },
    'arch.sw': { slug: info.arch },
  }
}

/** @throws {Error} When nothing here can be extended. */
async function measure(attestation: Attester, digest: string, pcr: number): Promise<void> {
  const payload = new Uint8Array(Buffer.from(digest, 'hex'))
  if (attestation.tdx) await attestation.runtimeEvents.emit(MEASURED_AS, payload)
  else if (attestation.nsm) await attestation.nsm.extendPcr(pcr, payload)
  else throw new Error('Cannot measure the target: this machine has no registers for it')
}
