import assert from 'node:assert/strict'
import { mkdirSync, realpathSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { ContainerDetails } from '../../src/engine/containers.ts'
import { errnoOf } from '../../src/errors.ts'
import {
  cvmdCommand,
  type DaemonProcess,
  freshFolder,
  startDaemon,
  unixRequest,
} from '../helpers/daemon.ts'
import type { TestEngine } from '../helpers/engine.ts'
import { type Answer, type CallInit, call } from './call.ts'
import { type EngineProxy, engineProxy } from './engine-proxy.ts'
import { eventually } from './eventually.ts'
import { APP } from './targets.ts'

const PORT = 48_484
const EVENT_MS = 30_000

/** A machine whose containers are supervised: an engine, and a daemon in the engine's network. */
export interface SupervisedMachine {
  readonly engine: TestEngine
  /** Of state, locks and configuration; outlives the daemon. */
  readonly folder: string
  /** What the daemon asks the engine. */
  readonly proxy: EngineProxy
  /** The daemon that runs now. */
  readonly daemon: DaemonProcess
  /**
   * Starts the daemon; its API answers when this resolves.
   *
   * @param how `direct`: it speaks to the engine itself.
   */
  start(how?: { readonly direct?: boolean }): Promise<void>
  /** Why the plugin is not ready; undefined when it is. */
  waiting(): Promise<string | undefined>
  /** SIGKILL, and its end. */
  kill(): Promise<void>
  /** A request with the key of the device, or the one given. */
  api(path: string, init?: CallInit): Promise<Answer>
  post(path: string, body?: unknown): Promise<Answer>
  /** Posts a target and expects that it is taken. */
  setTarget(target: unknown): Promise<void>
  /** Containers that are supervised, by name. */
  containers(): Promise<Map<string, ContainerDetails>>
  container(name: string): Promise<ContainerDetails>
  /**
   * Waits until the supervised containers are these and the daemon says that it is done: by name,
   * what the engine says of each.
   */
  converged(containers: Readonly<Record<string, string>>): Promise<void>
  /** What the supervisor of the daemon that runs now recorded. */
  events(): Promise<string[]>
  /** Waits until it recorded this, 30 s at most. */
  recorded(text: string): Promise<void>
  /** Folder of a service's locks. */
  locksOf(service: string, appId?: number): string
}

export interface MachineOptions {
  /** More of `[plugins.supervisor]`, and tables below it. */
  readonly config?: string
  /** Whether the daemon runs at once. Default: true. */
  readonly start?: boolean
  /** More arguments of the daemon. */
  readonly args?: readonly string[]
}

/** A machine without containers, whose daemon runs. It ends with the test. */
export async function supervisedMachine(
  t: TestContext,
  engine: TestEngine,
  { config = '', start = true, args: more = [] }: MachineOptions = {},
): Promise<SupervisedMachine> {
  await engine.clear()
  const folder = realpathSync(freshFolder())
  const lockRoot = join(folder, 'locks')
  mkdirSync(join(folder, 'root'))
  const proxy = await engineProxy(t, engine.socketPath, join(folder, 'proxy.sock'))
  const url = `http://${engine.address}:${PORT}`
  let daemon: DaemonProcess | undefined
  let key = ''

  const running = (): DaemonProcess => {
    assert.ok(daemon, 'the daemon was not started')
    return daemon
  }
  const api = (path: string, init: CallInit = {}) => call(`${url}${path}`, { key, ...init })
  const post = (path: string, body: unknown = {}) => api(path, { method: 'POST', body })

  const machine: SupervisedMachine = {
    engine,
    folder,
    proxy,
    get daemon() {
      return running()
    },
    async start({ direct = false } = {}) {
      const [program, args] = cvmdCommand([])
      daemon = await startDaemon({
        folder,
        args: more,
        command: [...engine.inNetwork, program, ...args],
        config: `[plugins.supervisor]
enabled = true
engine_socket = "${direct ? engine.socketPath : proxy.socketPath}"
host = "${engine.address}"
lock_dir = "${lockRoot}"
${config}
[plugins.supervisor.machine]
root = "{folder}/root"
dry_run = true
`,
      })
      const { status, body } = await unixRequest(daemon.socket, '/cvmd/supervisor/key')
      assert.equal(status, 200, body)
      key = body.trim()
    },
    async kill() {
      const { signal, exited } = running()
      try {
        signal('SIGKILL')
      } catch (error) {
        if (errnoOf(error) !== 'ESRCH') throw error
      }
      await exited()
    },
    async waiting() {
      const { body } = await unixRequest(running().socket, '/cvmd/ready')
      return (JSON.parse(body) as { waiting?: Record<string, string> }).waiting?.supervisor
    },
    api,
    post,
    async setTarget(target) {
      const answer = await post('/v2/local/target-state', target)
      assert.equal(answer.status, 200, answer.body)
    },
    async containers() {
      const { containers } = engine.client
      const found = await containers.list({ labels: ['io.balena.supervised'] })
      const details = await Promise.all(found.map(({ Id }) => containers.inspect(Id)))
      return new Map(details.map((one) => [one.Name.replace(/^\//, ''), one]))
    },
    container: (name) => engine.client.containers.inspect(name),
    async converged(wanted) {
      const states = async () => {
        const there = await machine.containers()
        const found = [...there].map(([name, { State }]) => [name, State.Status] as const)
        const { appState } = (await api('/v2/state/status')).json()
        return { appState, containers: Object.fromEntries(found.sort()) }
      }
      const whole = JSON.stringify({
        appState: 'applied',
        containers: Object.fromEntries(Object.entries(wanted).sort()),
      })
      try {
        await eventually(`it is ${whole}`, states, (found) => JSON.stringify(found) === whole)
      } catch (error) {
        const said = (await machine.events()).join('\n')
        throw new Error(`${(error as Error).message}\n${said}`)
      }
    },
    events: async () => (await eventsAfter(running().socket, 0, 0)).messages,
    async recorded(text) {
      const deadline = performance.now() + EVENT_MS
      const { socket } = running()
      const seen: string[] = []
      for (let after = 0; ; ) {
        const { messages, next } = await eventsAfter(socket, after, 5)
        if (messages.some((message) => message.includes(text))) return
        seen.push(...messages)
        after = next
        assert.ok(performance.now() < deadline, `"${text}" was not recorded:\n${seen.join('\n')}`)
      }
    },
    locksOf: (service, appId = APP) => join(lockRoot, String(appId), service),
  }
  t.after(async () => {
    if (daemon) await machine.kill()
    rmSync(folder, { recursive: true, force: true })
  })
  if (start) await machine.start()
  return machine
}

/** @param waitS How long the daemon waits for one, in seconds. */
async function eventsAfter(
  socket: string,
  after: number,
  waitS: number,
): Promise<{ readonly messages: string[]; readonly next: number }> {
  const query = `after=${after}&wait=${waitS}&source=supervisor&limit=1000`
  const { status, body } = await unixRequest(socket, `/cvmd/events?${query}`)
  assert.equal(status, 200, body)
  const page = JSON.parse(body) as { events: { message: string }[]; next: number }
  return { messages: page.events.map(({ message }) => message), next: page.next }
}
