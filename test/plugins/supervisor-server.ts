import { mkdirSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createConsola } from 'consola/basic'
import * as v from 'valibot'
import supervisor from '../../plugins/supervisor/index.ts'
import { NO_ATTESTER } from '../../src/attester/none.ts'
import { createAudit } from '../../src/auth/audit.ts'
import { KeyStore } from '../../src/auth/keys.ts'
import { Throttle } from '../../src/auth/throttle.ts'
import { Listen } from '../../src/config/schema.ts'
import { EventLog } from '../../src/events/log.ts'
import { NO_GPUS } from '../../src/gpu/none.ts'
import { openListener } from '../../src/http/listen.ts'
import { mount } from '../../src/http/mount.ts'
import { Metrics } from '../../src/metrics.ts'
import { setUp } from '../../src/setup.ts'
import { freshFolder } from '../helpers/daemon.ts'

/** The real plugin on the listeners that it has by default, in the test's own process. */
export interface SupervisorServer {
  /** A private folder. */
  readonly folder: string
  /** Port of the API. */
  readonly port: number
  /** Port of the operator. */
  readonly operatorPort: number
  /** The operator's Unix socket. */
  readonly socket: string
  messages(): string[]
  /** `fetch` of the API with a key of the device. */
  ask(path: string, init?: RequestInit): Promise<Response>
  notReady(): string | undefined
  stop(): Promise<void>
}

/** Starts it against an engine; the machine is a folder and nothing of it is changed. */
export async function serveSupervisor(
  engineSocket: string,
  changes: Record<string, unknown> = {},
): Promise<SupervisorServer> {
  const folder = realpathSync(freshFolder())
  for (const name of ['etc', 'mnt/boot/system-proxy']) {
    mkdirSync(join(folder, 'root', name), { recursive: true })
  }
  writeFileSync(join(folder, 'root/etc/hostname'), 'box\n')
  const config = v.parse(supervisor.config, {
    engine_socket: engineSocket,
    lock_dir: join(folder, 'locks'),
    device: { uuid: '0123456789abcdef0123456789abcdef', name: 'box' },
    machine: {
      root: join(folder, 'root'),
      dry_run: true,
      systemctl: ['false'],
      journalctl: ['printf', '%s\\n'],
    },
    ...changes,
  })
  const log = createConsola({ level: -999 })
  const eventLog = new EventLog()
  const metrics = new Metrics()
  const device = { has: () => true, path: (path: string) => path }
  const parts = {
    eventLog,
    attestation: NO_ATTESTER,
    gpus: NO_GPUS,
    daemon: { plugins: () => [] },
    metrics,
    log,
    stateDir: folder,
    device,
  }
  const loaded = setUp(supervisor, config, parts, {})
  mkdirSync(loaded.stateDir, { recursive: true, mode: 0o700 })
  const shared = {
    metrics,
    log,
    audit: createAudit(eventLog.sink('cvmd')),
    throttle: new Throttle(),
    keys: new KeyStore(join(folder, 'keys.json')),
    passwords: undefined,
    realm: 'cvmd',
    requestLines: false,
  }
  const listen = (table: v.InferInput<typeof Listen>) => {
    const parsed = v.parse(Listen, table)
    const name = parsed.address ?? `unix:${parsed.unix}`
    const at = { ...parsed, name, mounted: ['supervisor'] }
    return openListener(at, undefined, mount(at, [loaded], shared).handle)
  }
  const socket = join(folder, 'cvmd.sock')
  const own = await listen({ address: '127.0.0.1:0', plugins: ['supervisor'], core: false })
  const operator = await listen({ address: '127.0.0.1:0' })
  const unix = await listen({ unix: socket })
  const close = async () => {
    await Promise.all([own, operator, unix].map((listener) => listener.close(100)))
    loaded.abort.abort()
    await loaded.instance.stop?.()
    rmSync(folder, { recursive: true, force: true })
  }
  let key = ''
  try {
    await loaded.instance.start?.()
    loaded.unavailable = undefined
  } catch (error) {
    await close()
    throw error
  }
  return {
    folder,
    port: own.port,
    operatorPort: operator.port,
    socket,
    messages: () => eventLog.after(0).map(({ message }) => message),
    ask: async (path, init = {}) => {
      if (key === '') {
        // Made by the secret in the state folder, as the operator's socket would tell it.
        const { SupervisorKeys, GLOBAL } = await import(
          '../../plugins/supervisor/keys/supervisor-keys.ts'
        )
        const keys = new SupervisorKeys({ folder: loaded.stateDir })
        await keys.open()
        key = keys.keyOf(GLOBAL)
      }
      const headers = { authorization: `Bearer ${key}`, ...init.headers }
      return fetch(`http://127.0.0.1:${own.port}${path}`, { ...init, headers })
    },
    notReady: () => loaded.instance.notReady?.(),
    stop: close,
  }
}

/** Asks until the answer is what is waited for. */
export async function untilAnswer(
  server: SupervisorServer,
  path: string,
  holds: (text: string) => boolean,
): Promise<string> {
  const deadline = performance.now() + 40_000
  for (;;) {
    const answer = await server.ask(path)
    const text = await answer.text()
    if (holds(text)) return text
    if (performance.now() > deadline) {
      throw new Error(`${path} stayed ${text}\n${server.messages().slice(-20).join('\n')}`)
    }
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
