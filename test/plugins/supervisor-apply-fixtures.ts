import assert from 'node:assert/strict'
import { mkdirSync, realpathSync } from 'node:fs'
import { join } from 'node:path'
import { createSupervisor } from '../../plugins/supervisor/apply/create-supervisor.ts'
import type { ComposeContext } from '../../plugins/supervisor/compose/context.ts'
import { desiredState } from '../../plugins/supervisor/compose/desired.ts'
import { Locks } from '../../plugins/supervisor/locks/locks.ts'
import type {
  AcceptedTarget,
  Supervisor,
  SupervisorOptions,
} from '../../plugins/supervisor/supervisor.ts'
import { parseLocalTarget } from '../../plugins/supervisor/target/parse.ts'
import type { Engine } from '../../src/engine/engine.ts'
import { EventLog } from '../../src/events/log.ts'
import { freshFolder } from '../helpers/daemon.ts'

export const UUID = 'aabbccddeeff00112233445566778899'
export const APP = 101

/** Everything of a device but its engine: outlives a supervisor that is dropped. */
export interface Device {
  readonly folder: string
  readonly lockRoot: string
  readonly stateFolder: string
  readonly log: EventLog
  /** Messages of all supervisors of this device. */
  messages(): string[]
  accepts(body: object): AcceptedTarget
  /** The identity of a container of a target that is posted. */
  hashOf(body: object, appId: number, serviceName: string): string | undefined
  /** Another supervisor on the same state, not started. */
  supervisor(engine: Engine, changes?: Partial<SupervisorOptions>): Supervisor
}

export function device(folder = freshFolder()): Device {
  const real = realpathSync(folder)
  const lockRoot = join(real, 'locks')
  const stateFolder = join(real, 'state')
  mkdirSync(stateFolder, { recursive: true, mode: 0o700 })
  const log = new EventLog()
  const context: ComposeContext = {
    device: { uuid: UUID, name: 'box', type: 'generic', arch: 'amd64', osVersion: 'test' },
    api: { port: 48484, keyOf: () => 'k'.repeat(64) },
    gateway: '10.114.104.1',
    lockRoot,
    engineSocket: '/nowhere',
    allowEngineSocket: false,
    hostHas: () => false,
  }
  return {
    folder: real,
    lockRoot,
    stateFolder,
    log,
    messages: () => log.after(0).map(({ message }) => message),
    accepts: (body) => parseLocalTarget(body),
    hashOf: (body, appId, serviceName) =>
      desiredState(parseLocalTarget(body).target, context)
        .apps.find((app) => app.appId === appId)
        ?.services.find((service) => service.serviceName === serviceName)?.hash,
    supervisor: (engine, changes = {}) =>
      createSupervisor({
        engine,
        locks: new Locks({ root: lockRoot }),
        context: () => context,
        stateFolder,
        events: log.sink('supervisor'),
        bootId: 'boot-1',
        bootTime: 0,
        deviceUuid: UUID,
        ...changes,
      }),
  }
}

const WAIT_MS = 40_000

/** Resolves when it holds; looks whenever the supervisor says that something changed. */
export async function until(
  supervisor: Supervisor,
  holds: () => boolean,
  what: string,
  signal?: AbortSignal,
): Promise<void> {
  if (holds()) return
  await new Promise<void>((resolve, reject) => {
    const end = supervisor.onChange(() => {
      if (!holds()) return
      clearTimeout(timer)
      end()
      resolve()
    })
    signal?.addEventListener('abort', () => {
      clearTimeout(timer)
      end()
      reject(signal.reason)
    })
    const timer = setTimeout(() => {
      end()
      const apps = supervisor.apps().map(({ services, ...app }) => ({
        ...app,
        services: services.map(({ serviceName, status }) => `${serviceName} ${status}`),
      }))
      reject(new Error(`${what} did not happen: ${JSON.stringify(apps)}`))
    }, WAIT_MS)
  })
}

/** Everything is as the target says. */
export async function applied(
  supervisor: Supervisor,
  appId = APP,
  signal?: AbortSignal,
): Promise<void> {
  const holds = () => {
    const app = supervisor.app(appId)
    const { target } = supervisor.target()
    if (target?.apps.find((one) => one.appId === appId)?.commit !== app?.appliedCommit) return false
    return app?.updateStatus === 'done'
  }
  await until(supervisor, holds, 'the apply', signal)
  const app = supervisor.app(appId)
  assert.equal(app?.problem, undefined)
}

export interface ServiceInput {
  readonly image?: string
  readonly environment?: Record<string, string>
  readonly labels?: Record<string, string>
  readonly [field: string]: unknown
}

/** A v2 target with one app; services by name. */
export function target(
  services: Record<string, ServiceInput>,
  changes: {
    readonly commit?: string
    readonly releaseId?: number
    readonly volumes?: object
    readonly networks?: object
    readonly appId?: number
    readonly config?: Record<string, string>
  } = {},
): object {
  const { commit = 'c1', releaseId = 1, volumes = {}, networks = {}, config = {} } = changes
  const { appId = APP } = changes
  const entries = Object.entries(services).map(([serviceName, service], index) => {
    const { image = 'cvmd-test:latest', environment = {}, labels = {}, ...rest } = service
    return [
      String(index + 1),
      {
        serviceName,
        serviceId: index + 1,
        imageId: index + 1001,
        image,
        environment,
        labels,
        running: true,
        stop_grace_period: '1s',
        ...rest,
      },
    ]
  })
  const app = {
    name: `app${appId}`,
    commit,
    releaseId,
    services: Object.fromEntries(entries),
    volumes,
    networks,
  }
  return { local: { name: 'box', config, apps: { [String(appId)]: app } } }
}

export function serviceOf(supervisor: Supervisor, serviceName: string, appId = APP) {
  const service = supervisor.app(appId)?.services.find((one) => one.serviceName === serviceName)
  assert.ok(service, `no service ${serviceName}`)
  return service
}

export function containerOf(supervisor: Supervisor, serviceName: string, appId = APP) {
  const { container } = serviceOf(supervisor, serviceName, appId)
  assert.ok(container, `no container of ${serviceName}`)
  return container
}
