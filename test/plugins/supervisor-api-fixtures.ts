import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { HeldLocks } from '../../plugins/supervisor/locks/locks.ts'
import { supervisorPlugin } from '../../plugins/supervisor/plugin.ts'
import type {
  AppView,
  CleanupOptions,
  LogRecord,
  OperationOptions,
  ServiceView,
  StatusView,
  Supervisor,
  SupervisorOptions,
} from '../../plugins/supervisor/supervisor.ts'
import type { Target } from '../../plugins/supervisor/target/model.ts'
import { readSettings } from '../../plugins/supervisor/target/settings.ts'
import { hostPlugin, type PluginHost } from '../helpers/plugin-host.ts'

const ID = 'c'.repeat(63)
const COMMIT = 'ab'.repeat(20)

/** A job that does nothing but remember what it was asked for. */
export class FakeSupervisor implements Supervisor {
  readonly calls: unknown[][] = []
  readonly options: SupervisorOptions
  revision = 1
  localMode = false
  healthy = true
  triggered = true
  suspended = 0
  /** Thrown by the next call that can fail. */
  failure: Error | undefined
  config: Record<string, string> = {}
  views: AppView[] = [
    app(101, 'solo', [service('main', 2001, '1')]),
    app(202, 'duo', [service('web', 2002, '2'), service('db', 2003, '3')]),
  ]
  state: StatusView = {
    appState: 'applied',
    overallDownloadProgress: null,
    updatePending: false,
    updateFailed: false,
    updateDownloaded: false,
  }
  current: Target | undefined
  records: LogRecord[] = []
  volumes: string[] = ['101_data']
  readonly #listeners = new Set<() => void>()

  constructor(options: SupervisorOptions) {
    this.options = options
  }

  #call(...call: unknown[]): void {
    this.calls.push(call)
    const { failure } = this
    this.failure = undefined
    if (failure) throw failure
  }

  async start() {}
  async stop() {}
  apps() {
    return this.views
  }
  app(appId: number) {
    return this.views.find((view) => view.appId === appId)
  }
  images() {
    return this.views.flatMap((view) =>
      view.services.map((one) => ({
        name: one.image,
        appId: view.appId,
        serviceName: one.serviceName,
        imageId: one.imageId,
        engineImageId: 'sha256:1',
        status: 'Downloaded' as const,
        downloadProgress: null,
      })),
    )
  }
  status() {
    return this.state
  }
  target() {
    return { target: this.current, source: undefined, sourceOf: () => 'local' as const }
  }
  settings() {
    return readSettings(this.config)
  }
  health() {
    const { healthy } = this
    return { healthy, problems: [], engineConnected: healthy, targetFetched: undefined }
  }
  notReady() {
    return undefined
  }
  async setTarget(body: unknown, options?: { readonly force?: boolean }) {
    this.#call('setTarget', body, options)
    return { target: { deviceName: undefined, config: {}, apps: [] }, warnings: [] }
  }
  async update(options = {}) {
    this.#call('update', options)
    return { triggered: this.triggered }
  }
  async restartApp(...call: [number, OperationOptions?]) {
    this.#call('restartApp', ...call)
  }
  async purgeApp(...call: [number, OperationOptions?]) {
    this.#call('purgeApp', ...call)
  }
  async startService(...call: Parameters<Supervisor['startService']>) {
    this.#call('startService', ...call)
    return `${ID}1`
  }
  async stopService(...call: Parameters<Supervisor['stopService']>) {
    this.#call('stopService', ...call)
    return `${ID}1`
  }
  async restartService(...call: Parameters<Supervisor['restartService']>) {
    this.#call('restartService', ...call)
  }
  async cleanupVolumes({ dryRun = false, apps = () => true }: CleanupOptions = {}) {
    this.#call('cleanupVolumes', dryRun)
    return this.volumes.filter((name) => apps(Number.parseInt(name, 10)))
  }
  async withLocks<T>(
    appIds: readonly number[] | 'all',
    options: OperationOptions,
    work: (held: HeldLocks) => T | Promise<T>,
  ): Promise<T> {
    this.#call('withLocks', appIds, options)
    return work({ appIds: [], release: async () => undefined })
  }
  suspend() {
    this.suspended++
    return () => void this.suspended--
  }
  contextChanged() {
    this.calls.push(['contextChanged'])
  }
  keyOf(appId: number, serviceName: string) {
    return this.options.context().api.keyOf(appId, serviceName)
  }
  async *followLogs(signal: AbortSignal): AsyncGenerator<LogRecord> {
    this.#call('followLogs')
    yield { message: 'Streaming logs', isSystem: true }
    yield* this.records
    if (signal.aborted) return
    await new Promise((resolve) => signal.addEventListener('abort', resolve))
    this.calls.push(['logs ended'])
  }
  onChange(changed: () => void) {
    this.#listeners.add(changed)
    return () => void this.#listeners.delete(changed)
  }

  /** Tells that something is another now. */
  changed(): void {
    this.revision++
    for (const listener of this.#listeners) listener()
  }
}

export function service(serviceName: string, imageId: number, digit: string): ServiceView {
  return {
    serviceName,
    serviceId: imageId - 1990,
    imageId,
    releaseId: 1001,
    image: `registry.example/${serviceName}:1`,
    wanted: true,
    status: 'Running',
    downloadProgress: null,
    stoppedByUser: false,
    container: {
      id: ID + digit,
      name: `${serviceName}_${imageId}_1001_${COMMIT}`,
      state: 'running',
      health: 'none',
      exitCode: undefined,
      createdAt: '2026-11-20T20:42:52.926Z',
      engineImageId: `sha256:${digit}`,
      env: { PATH: '/bin', LEVEL: 'low', BALENA_SUPERVISOR_API_KEY: 'hidden', RESIN_API_KEY: 'x' },
    },
  }
}

export function app(appId: number, name: string, services: ServiceView[]): AppView {
  return {
    appId,
    uuid: `${appId}aa`,
    name,
    wanted: true,
    commit: COMMIT,
    releaseId: 1001,
    appliedCommit: COMMIT,
    updateStatus: 'done',
    problem: undefined,
    waits: [],
    services,
  }
}

/** The plugin on a fake job, on a machine of its own. */
export interface ApiHost {
  readonly host: PluginHost
  readonly fake: FakeSupervisor
  /** Key of the device. */
  readonly key: string
  /** Key of the service `main` of app 101. */
  readonly scoped: string
  /** Folder that stands for `/`. */
  readonly root: string
  /** Sends JSON with a key; a string is sent as it is. */
  call(method: string, path: string, body?: unknown, key?: string): Promise<Response>
  stop(): Promise<void>
}

/** Sets the plugin up; commands are scripts that write what they were called with. */
export async function apiHost(config: Record<string, unknown> = {}): Promise<ApiHost> {
  const root = mkdtempSync(join(tmpdir(), 'cvmd-test-'))
  mkdirSync(join(root, 'etc'))
  mkdirSync(join(root, 'mnt/boot/system-proxy'), { recursive: true })
  writeFileSync(join(root, 'etc/hostname'), 'box\n')
  writeFileSync(join(root, 'etc/os-release'), 'PRETTY_NAME="testOS 1"\nVARIANT_ID=dev\n')
  const { machine = {}, ...rest } = config as { machine?: object }
  let fake: FakeSupervisor | undefined
  const plugin = supervisorPlugin((options) => {
    fake = new FakeSupervisor(options)
    return fake
  })
  const host = hostPlugin(plugin, {
    lock_dir: join(root, 'locks'),
    device: { uuid: 'dec0de', name: 'box one', type: 'generic' },
    machine: {
      root,
      dry_run: true,
      systemctl: ['false'],
      journalctl: ['printf', '%s\\n'],
      ...machine,
    },
    ...rest,
  })
  await host.start()
  const made = fake as FakeSupervisor | undefined
  if (!made) throw new Error('the plugin made no supervisor')
  const answer = await host.request('/cvmd/supervisor/key')
  const key = await answer.text()
  return {
    host,
    fake: made,
    key,
    scoped: made.keyOf(101, 'main'),
    root,
    call: (method, path, body, given = key) =>
      host.request(path, {
        method,
        headers: {
          ...(given === '' ? {} : { authorization: `Bearer ${given}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined
          ? {}
          : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      }),
    stop: async () => {
      await host.stop()
      rmSync(root, { recursive: true, force: true })
    },
  }
}
