import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readFileSync, realpathSync } from 'node:fs'
import { request } from 'node:http'
import { join, resolve } from 'node:path'
import { after, type TestContext } from 'node:test'
import { type Engine, openEngine } from '../../src/engine/engine.ts'
import { installed, lacks } from './counterpart.ts'
import { freshFolder } from './daemon.ts'
import { createTar, type TarEntry } from './tar.ts'

/** Kinds of engines, as `lacks` and `CVMD_REQUIRE` name them: `engine` is Docker. */
export type EngineKind = 'docker' | 'podman'

/**
 * The image every test engine has: busybox with the usual commands. Its own command does nothing
 * until SIGTERM and then ends with 0 at once; `sleep 1000` would ignore it for the whole grace time.
 */
export const TEST_IMAGE = 'cvmd-test:latest'

/**
 * A private container engine in network, mount and process namespaces of its own: see
 * `test/engine/private`. Paths mean the same on both sides.
 */
export interface TestEngine {
  readonly kind: EngineKind
  /** Where it listens, or will again after {@link TestEngine.start}. */
  readonly socketPath: string
  readonly client: Engine
  /** A private folder, removed at the end; `data` is the engine's. */
  readonly folder: string
  /** Its address, seen from the tests: ports that containers publish are here. */
  readonly address: string
  /** The tests' address, seen from the engine and its containers. */
  readonly hostAddress: string
  /**
   * Words to put before a command that is to run in the engine's network, where the gateways of
   * its networks are: `nsenter --net=… --`.
   */
  readonly inNetwork: readonly string[]
  /** SIGKILL to the engine; containers go on. */
  kill(): Promise<void>
  /** SIGTERM to the engine, which stops its containers. */
  end(): Promise<void>
  /** Starts it again on the same data and waits until it answers. */
  start(): Promise<void>
  /** What the engine wrote to its log. */
  log(): string
  /** Removes all containers, and all networks and volumes that are not the engine's own. */
  clear(): Promise<void>
  /** Ends everything and removes the folder. Nothing is left. */
  stop(): Promise<void>
}

/** What is needed to start an engine and is not here; undefined when nothing is. */
export function lacking(kind: EngineKind = 'docker'): string | undefined {
  if (process.platform !== 'linux') return 'Linux'
  if (process.getuid?.() !== 0) return 'root'
  const programs = [kind === 'docker' ? 'dockerd' : 'podman', 'busybox', 'ip', 'nsenter', 'unshare']
  return programs.find((program) => !installed(program))
}

/**
 * To be called at the top of a test file: gives the engine that its tests share, started by the
 * first that asks and stopped after the last. A test that is skipped gets undefined.
 *
 * ```ts
 * const engineOf = useEngine()
 * test('…', async (t) => {
 *   const engine = await engineOf(t)
 *   if (!engine) return
 * ```
 */
export function useEngine(
  kind: EngineKind = 'docker',
): (t: TestContext) => Promise<TestEngine | undefined> {
  let shared: Promise<TestEngine> | undefined
  after(async () => {
    await (await shared?.catch(() => undefined))?.stop()
  })
  return async (t) => {
    const missing = lacking(kind)
    if (lacks(t, kind === 'docker' ? 'engine' : kind, missing === undefined)) return undefined
    shared ??= startEngine(kind)
    return await shared
  }
}

/** Starts an engine and imports {@link TEST_IMAGE}. */
export async function startEngine(kind: EngineKind = 'docker'): Promise<TestEngine> {
  const folder = freshFolder()
  const socketPath = join(folder, 'engine.sock')
  const child = spawn(resolve('test/engine/private'), [kind, folder], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const commands = commandsOf(child)
  const [pid, address = '', hostAddress = ''] = (await commands.line()).split(' ')
  const client = openEngine({ socketPath })
  const log = () => readFileSync(join(folder, 'log'), 'utf8')

  const engine: TestEngine = {
    kind,
    socketPath,
    client,
    folder,
    address,
    hostAddress,
    inNetwork: ['nsenter', `--net=/proc/${pid}/ns/net`, '--'],
    kill: () => commands.send('kill'),
    end: () => commands.send('end'),
    start: async () => {
      await commands.send('start')
      await answering(client, () => (commands.gone() ? 'it ended' : undefined), log)
    },
    log,
    clear: () => clear(client),
    stop: () => commands.close(),
  }
  try {
    await engine.start()
    await importImage(socketPath)
  } catch (error) {
    await engine.stop()
    throw error
  }
  return engine
}

/** The program reads commands from its input, one a line, and answers each with `ok`. */
function commandsOf(child: ChildProcess) {
  let text = ''
  let gone = false
  let wake = () => {}
  child.stdout?.on('data', (data) => {
    text += data
    wake()
  })
  const closed = new Promise<void>((done) => {
    child.once('close', () => {
      gone = true
      wake()
      done()
    })
  })
  // A program that ended shows by its missing answer.
  child.stdin?.on('error', () => {})
  const line = async (): Promise<string> => {
    for (;;) {
      const end = text.indexOf('\n')
      if (end !== -1) {
        const taken = text.slice(0, end)
        text = text.slice(end + 1)
        return taken
      }
      if (gone) throw new Error('the private engine could not be started, or ended')
      await new Promise<void>((woken) => {
        wake = woken
      })
    }
  }
  return {
    line,
    gone: () => gone,
    async send(command: string): Promise<void> {
      child.stdin?.write(`${command}\n`)
      await line()
    },
    async close(): Promise<void> {
      child.stdin?.end()
      await closed
    },
  }
}

const START_MS = 60_000

async function answering(
  client: Engine,
  failure: () => string | undefined,
  log: () => string,
): Promise<void> {
  const deadline = Date.now() + START_MS
  for (;;) {
    const error = await client.ping().catch((thrown: unknown) => thrown)
    if (error === undefined) return
    const reason = failure() ?? (Date.now() > deadline ? String(error) : undefined)
    if (reason) throw new Error(`the engine did not come up (${reason}):\n${log().slice(-4000)}`)
    await new Promise((tick) => setTimeout(tick, 20))
  }
}

async function clear({ containers, networks, volumes }: Engine): Promise<void> {
  for (const { Id } of await containers.list()) {
    await containers.remove(Id, { force: true, volumes: true })
  }
  for (const { Id, Name } of await networks.list()) {
    if (!['bridge', 'host', 'none', 'podman'].includes(Name)) await networks.remove(Id)
  }
  for (const { Name } of await volumes.list()) await volumes.remove(Name)
}

const IDLE = "trap 'exit 0' TERM; sleep 1000 & wait"

/** As `docker import` does. Tests of the client prove the client; this does not use it. */
function importImage(socketPath: string): Promise<void> {
  const query = new URLSearchParams({ fromSrc: '-', repo: 'cvmd-test', tag: 'latest' })
  query.append('changes', `CMD ${JSON.stringify(['sh', '-c', IDLE])}`)
  const body = imageFiles()
  return new Promise((done, failed) => {
    const call = request({
      socketPath,
      method: 'POST',
      path: `/images/create?${query}`,
      headers: { 'content-type': 'application/x-tar', 'content-length': body.length },
      agent: false,
    })
    call.once('error', failed)
    call.once('response', async (response) => {
      let said = ''
      for await (const chunk of response) said += chunk
      if (response.statusCode === 200 && !said.includes('"error"')) done()
      else failed(new Error(`the image was not imported: ${response.statusCode} ${said}`))
    })
    call.end(body)
  })
}

const APPLETS =
  'awk cat chmod cp date dd echo env false grep head hostname id ifconfig ip kill ln ls mkdir mkfifo ' +
  'nc netstat nslookup ping ps pwd readlink rm rmdir sed seq sh sleep stat stty sync tail tee test ' +
  'timeout top touch tr trap true tty umount uname usleep vi wc wget which yes'

/** The files of {@link TEST_IMAGE} as a tar. */
export function imageFiles(): Buffer {
  const busybox = readFileSync(realpathSync(busyboxPath()))
  const entries: TarEntry[] = [
    ...['bin/', 'etc/', 'tmp/'].map((path) => ({ path })),
    { path: 'bin/busybox', data: busybox },
    ...APPLETS.split(' ').map((name) => ({ path: `bin/${name}`, link: 'busybox' })),
    { path: 'etc/passwd', data: Buffer.from('root:x:0:0:root:/:/bin/sh\n') },
  ]
  return createTar(entries)
}

function busyboxPath(): string {
  const paths = (process.env.PATH ?? '').split(':').map((folder) => join(folder, 'busybox'))
  return paths.find((path) => existsSync(path)) ?? '/bin/busybox'
}
