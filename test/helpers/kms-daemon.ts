import assert from 'node:assert/strict'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import type { KmsStatus } from '../../plugins/kms/admin/status.ts'
import { errnoOf } from '../../src/errors.ts'
import { createSimulator } from '../../src/simulate/simulator.ts'
import { type DaemonProcess, freshFolder, startDaemon, unixRequest } from './daemon.ts'
import type { Killable } from './kill-when.ts'
import { type Answer, answerOf, WAIT_MS } from './kms-answers.ts'
import { OS_IMAGE, type PolicyFile, policyFile } from './kms-policy-file.ts'

/*
 * KMS daemons and the daemons of applications, each in a process and a state folder of its own, on
 * simulated machines of one maker. A crash leaves what is on the disk: a machine that is started
 * again by its name goes on from there.
 */

/** Machines that have one maker, and one policy about them. */
export interface KmsSite {
  readonly folder: string
  /** A folder with what it takes to believe these machines. */
  readonly maker: string
  readonly policy: PolicyFile
  /** Starts a KMS, again if there was one of this name. */
  kms(options?: KmsMachine): Promise<KmsDaemon>
  /** Starts a daemon whose keys come from KMS. */
  app(options: AppMachine): Promise<AppDaemon>
  /** Kills what runs and removes what it left. */
  close(): Promise<void>
}

/** A machine that is a KMS. */
export interface KmsMachine {
  /** Of its folder. */
  readonly name?: string
  /** Where it listens, as after a restart; default any that is free. */
  readonly port?: number | undefined
  /** Its app-compose.json, which makes up what it measures. */
  readonly compose?: string
  /** Who may get keys, as TOML; default the site's policy. */
  readonly policy?: string
  /** Whose machines it believes; default those of its own maker. */
  readonly maker?: string
}

/** A machine with an application in it. */
export interface AppMachine {
  readonly name: string
  /** Its app-compose.json. */
  readonly compose: string
  readonly urls: readonly string[]
  /** Root certificates that a KMS may have, PEM. */
  readonly roots: readonly string[]
  /** SubjectPublicKeyInfo of the root certificate, hex: from where the machine says its keys are. */
  readonly provider: string
  readonly rootVersion?: number
  /** How long it waits for one KMS, in milliseconds. */
  readonly deadlineMs?: number
  /** Whose machines it believes; default those of its own maker. */
  readonly maker?: string
}

/** What `GET /cvmd/kms` answers, with the certificates. */
export interface Shown extends Pick<KmsStatus, 'mode'> {
  readonly reason: string | null
  readonly address: string | null
  readonly domain: string | null
  readonly version: number | null
  readonly versions: readonly {
    readonly version: number
    readonly k256_public_key: string
    readonly ca_public_key: string
    readonly ca_cert: string
  }[]
  readonly requests: KmsStatus['requests']
}

/** A daemon that can be killed. */
type Machine = DaemonProcess & Killable

export interface KmsDaemon extends DaemonProcess, Killable {
  /** The folder of its root keys. */
  readonly keys: string
  status(): Promise<Shown>
  /** Waits until it does this, 20 s at most. */
  until(mode: Shown['mode']): Promise<Shown>
  /** Of the one HTTP listener it has at a time. */
  port(): Promise<number>
  /** Its base URL while it serves keys. */
  url(): Promise<string>
  /** What the operator sends to set it up. */
  readonly authorization: string
  /** A call of the set-up. Undefined when it was killed before an answer. */
  setUp(method: string, args?: object): Promise<Answer | undefined>
  /** Makes root keys and serves them. Gives what Bootstrap answered. */
  bootstrap(domain?: string): Promise<Answer['json']>
  /** Joins another one and serves. Gives what Onboard answered. */
  join(source: string, domain?: string): Promise<Answer['json']>
}

export interface AppDaemon extends DaemonProcess, Killable {
  /** A call of the application. */
  ask(path: string): Promise<Answer>
  /** Why the agent has no keys; undefined when it has. */
  waiting(): Promise<string | undefined>
  /** The application's key of a name, once there are keys; 20 s at most. */
  key(name?: string): Promise<string>
}

const KMS_COMPOSE = '{"name":"kms"}'

/** Machines of a maker of their own. */
export async function kmsSite(): Promise<KmsSite> {
  const folder = freshFolder()
  const first = join(folder, 'maker')
  mkdirSync(first)
  await createSimulator({ platform: 'tdx', stateDir: first })
  const maker = join(first, 'simulate')
  const policy = policyFile(join(folder, 'policy.json'))
  const running = new Set<Machine>()

  async function start(name: string, compose: string, config: string): Promise<Machine> {
    const home = join(folder, name)
    const simulate = join(home, 'state', 'simulate')
    mkdirSync(simulate, { recursive: true, mode: 0o700 })
    copyFileSync(join(maker, 'tdx-keys.pem'), join(simulate, 'tdx-keys.pem'))
    writeFileSync(join(home, 'app-compose.json'), compose)
    const daemon = await startDaemon({
      folder: home,
      args: ['--simulate', 'tdx'],
      config: `${GUEST}${config}`,
    })
    const machine: Machine = {
      ...daemon,
      kill: async () => {
        try {
          if (running.has(machine)) daemon.signal('SIGKILL')
        } catch (error) {
          // It has just ended by itself.
          if (errnoOf(error) !== 'ESRCH') throw error
        }
        await daemon.exited()
      },
    }
    running.add(machine)
    void daemon.exited().then(() => running.delete(machine))
    return machine
  }

  return {
    folder,
    maker,
    policy,
    async kms({ name = 'kms', port = 0, compose = KMS_COMPOSE, policy: own, maker: of } = {}) {
      const decides = own ?? `type = "file"\nfile = "${policy.path}"`
      const server = `[plugins.kms]
role = "server"
${trusting(of ?? maker)}[plugins.kms.server]
address = "127.0.0.1:${port}"
[plugins.kms.server.policy]
${decides}
`
      return kmsDaemon(await start(name, compose, `${OPERATOR}${server}`))
    },
    async app({ name, compose, urls, roots, provider, rootVersion, deadlineMs = 5000, ...more }) {
      const home = join(folder, name)
      mkdirSync(home, { recursive: true })
      writeFileSync(join(home, 'kms-root.pem'), roots.join(''))
      const version = rootVersion === undefined ? '' : `root_version = ${rootVersion}\n`
      const agent = `[plugins.guest.key_provider]
name = "kms"
id = "${provider}"
[plugins.kms]
${trusting(more.maker ?? maker)}[plugins.kms.upstream]
urls = ${JSON.stringify(urls)}
root_ca = "{folder}/kms-root.pem"
deadline_ms = ${deadlineMs}
${version}`
      const listen = `${OPERATOR}${APPLICATION}`
      return appDaemon(await start(name, compose, `${listen}${agent}`))
    },
    async close() {
      await Promise.all([...running].map((machine) => machine.kill()))
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

const GUEST = `[plugins.guest]
app_compose = "{folder}/app-compose.json"
os_image_hash = "${OS_IMAGE}"
no_instance_id = true
`

const OPERATOR = `[[listen]]
unix = "{folder}/run/cvmd.sock"
`

const APPLICATION = `[[listen]]
unix = "{folder}/run/dstack.sock"
core = false
plugins = ["tdx", "guest", "kms"]
dialect = "dstack"
`

const trusting = (maker: string) => `[plugins.kms.trust]
tdx_root = "${maker}/tdx-root.pem"
collateral = "${maker}/tdx-collateral.json"
`

function kmsDaemon(machine: Machine): KmsDaemon {
  const { folder, socket } = machine
  const home = join(folder, 'state', 'kms')
  const status = async () => (await operator(socket, '/cvmd/kms')) as unknown as Shown
  const port = async () => Number(/\d+$/.exec((await status()).address ?? '')?.[0] ?? 0)
  const authorization = () => {
    const token = readFileSync(join(home, 'onboard-token'), 'utf8').trim()
    return `Bearer ${token}`
  }
  const until = (mode: Shown['mode']) =>
    eventually(`the KMS is ${mode}`, status, (shown) => shown.mode === mode)

  async function setUp(method: string, args: object = {}): Promise<Answer | undefined> {
    // From the log, as an answer would let a moment pass.
    const [, at] = /set it up on port (\d+)/.exec(machine.output()) ?? []
    const url = `http://127.0.0.1:${at}/prpc/Onboard.${method}?json`
    try {
      const response = await fetch(url, {
        method: 'POST',
        headers: { authorization: authorization() },
        body: JSON.stringify(args),
        signal: AbortSignal.timeout(WAIT_MS),
      })
      return answerOf(response.status, await response.text())
    } catch (error) {
      assert.notEqual((error as Error).name, 'TimeoutError', `${method} was not answered`)
      return undefined
    }
  }

  async function served(method: string, args: object): Promise<Answer['json']> {
    const answer = await setUp(method, args)
    assert.equal(answer?.status, 200, answer?.body)
    assert.equal((await setUp('Finish'))?.status, 200)
    await until('serving')
    return answer.json
  }

  return {
    ...machine,
    keys: join(home, 'root-keys'),
    get authorization() {
      return authorization()
    },
    status,
    until,
    port,
    url: async () => `https://127.0.0.1:${await port()}`,
    setUp,
    bootstrap: (domain = '127.0.0.1') => served('Bootstrap', { domain }),
    join: (source_url, domain = '127.0.0.1') => served('Onboard', { source_url, domain }),
  }
}

function appDaemon(machine: Machine): AppDaemon {
  const { folder, socket } = machine
  const ask = async (path: string) => {
    const { status, body } = await unixRequest(join(folder, 'run', 'dstack.sock'), path)
    return answerOf(status, body)
  }
  const waiting = async () => {
    const { body } = await unixRequest(socket, '/cvmd/ready')
    const { waiting } = JSON.parse(body) as { waiting?: Record<string, string> }
    return waiting?.kms
  }
  return {
    ...machine,
    ask,
    waiting,
    key: async (name = 'wallet') => {
      await eventually('the agent has keys', waiting, (why) => why === undefined)
      const answer = await ask(`/GetKey?path=${name}`)
      assert.equal(answer.status, 200, answer.body)
      return answer.json.key ?? ''
    },
  }
}

/** JSON from the operator's socket. */
async function operator(socket: string, path: string): Promise<Record<string, unknown>> {
  const { status, body } = await unixRequest(socket, path)
  assert.equal(status, 200, `${path} ${body}`)
  return JSON.parse(body)
}

/** Looks until it is so, 20 s at most. */
export async function eventually<T>(
  what: string,
  look: () => Promise<T>,
  isSo: (found: T) => boolean,
): Promise<T> {
  const deadline = performance.now() + WAIT_MS
  for (;;) {
    const found = await look()
    if (isSo(found)) return found
    assert.ok(performance.now() < deadline, `Not within ${WAIT_MS} ms: ${what}; ${text(found)}`)
    await new Promise((tick) => setTimeout(tick, 20))
  }
}

const text = (found: unknown) => JSON.stringify(found)?.slice(0, 2000)

/** Names in the folder of a KMS's root keys, sorted, without files that are being written. */
export function rootFiles({ keys }: Pick<KmsDaemon, 'keys'>): readonly string[] {
  return namesIn(keys).filter((name) => !name.startsWith('.'))
}

/** Everything in a folder; nothing where there is none. */
export function namesIn(folder: string): readonly string[] {
  return existsSync(folder) ? readdirSync(folder).sort() : []
}
