import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { reportedApps } from '../../plugins/supervisor/report/apps.ts'
import type {
  AppView,
  OperationOptions,
  ServiceView,
  Supervisor,
} from '../../plugins/supervisor/supervisor.ts'
import type { FastClock } from '../helpers/fast-clock.ts'
import { err, FakeEngine } from './supervisor-apply-fake.ts'
import { type Device, device, type ServiceInput, target } from './supervisor-apply-fixtures.ts'

export const APPS = [101, 202, 303] as const
export const SERVICES = ['a', 'b', 'c', 'd'] as const
export const STRATEGIES = [
  'download-then-kill',
  'kill-then-download',
  'delete-then-download',
  'hand-over',
] as const
export const HASH = 'io.cvmd.supervisor.hash'
const APP_ID = 'io.balena.app-id'

export interface ServiceDraft {
  readonly image: 1 | 2 | 3
  readonly environment: 1 | 2
  readonly label: 1 | 2
  readonly strategy: (typeof STRATEGIES)[number]
  readonly volumes: readonly string[]
  readonly networks: readonly string[]
  /** Whether it depends on the service before it, or is in its network. */
  readonly after: 'nothing' | 'depends' | 'network'
  readonly running: boolean
  readonly restart: 'always' | 'no' | 'on-failure'
}

export interface AppDraft {
  readonly commit: number
  readonly network: 1 | 2
  readonly volume: 1 | 2
  readonly services: readonly (ServiceDraft | undefined)[]
}

export type Ask = 'start' | 'stop' | 'restart' | 'restart-app' | 'purge' | 'update' | 'cancel'
export type Failure = 'refused' | 'lost' | 'late' | 'conflict'

export type Happening =
  | { readonly do: 'target'; readonly apps: readonly (AppDraft | undefined)[]; force: boolean }
  | { readonly do: 'ask'; what: Ask; app: number; service: number; force: boolean }
  | { readonly do: 'lock' | 'unlock'; app: number; service: number }
  | { readonly do: 'ends'; app: number; service: number; exitCode: number }
  | { readonly do: 'fail'; kinds: readonly Failure[]; reads: boolean }
  | { readonly do: 'stranger'; app: number; service: number; at: number; commit: number }
  | { readonly do: 'cut' | 'rest' | 'restart' | 'kill' | 'lose-images' }
  | { readonly do: 'wait'; turns: number }

/** Real time, in which everything has to come to rest by itself. */
const REST_MS = 3000

/** Plays what happens to one device, and remembers what was acknowledged. */
export class Story {
  readonly fake = new FakeEngine()
  readonly #device: Device = device()
  readonly #clock: FastClock
  readonly #fetched: boolean
  readonly #foreign: { box: string; net: string; vol: string }
  #process = { dead: false }
  #supervisor!: Supervisor
  #failures: Failure[] = []
  #failReads = false
  #wanted: readonly (AppDraft | undefined)[] = []
  #accepted = false
  /** Requests that were not answered yet. */
  readonly #open = new Set<Promise<unknown>>()
  /** By service: what has to be true of it at rest; undefined: either. */
  readonly #running = new Map<string, boolean | undefined>()
  /** Where data are. */
  readonly #volumes = new Map<string, string>()
  /** Containers with names that are ours. */
  readonly #strangers: string[] = []
  readonly #trial: boolean
  readonly #seed: number
  #random: number

  constructor(clock: FastClock, seed: number, { fetched = false, trial = false }) {
    this.#trial = trial
    this.#clock = clock
    this.#fetched = fetched
    this.#seed = seed
    this.#random = seed
    const { fake } = this
    const engine = fake.engine()
    this.#foreign = { box: fake.foreign('stranger'), net: '', vol: 'stranger' }
    void engine.volumes.create({ Name: 'stranger' })
    fake.before = (call) => this.#before(call)
    fake.after = (call) => this.#after(call)
    fake.pulling = async (_, signal) => {
      for (let left = this.#dice(20); left > 0; left--) await turn()
      signal?.throwIfAborted()
    }
  }

  #dice(sides: number): number {
    this.#random = (Math.imul(this.#random, 1664525) + 1013904223) >>> 0
    return Math.floor((this.#random / 2 ** 32) * sides)
  }

  #fails(call: string): Failure | undefined {
    if (/\.read/.test(call)) return undefined
    if (/\.(list|inspect)/.test(call) && !this.#failReads) return undefined
    return this.#failures[0]
  }

  async #before(call: string): Promise<void> {
    for (let left = this.#dice(4); left > 0; left--) await turn()
    const kind = this.#fails(call)
    if (kind !== 'refused' && kind !== 'conflict') return
    this.#failures.shift()
    throw err(kind === 'conflict' ? 'CONFLICT' : 'FAILED', `it is ${kind}`)
  }

  #after(call: string): void {
    const kind = this.#fails(call)
    if (kind !== 'lost' && kind !== 'late') return
    this.#failures.shift()
    throw err(kind === 'lost' ? 'UNREACHABLE' : 'TIMEOUT', `the answer is ${kind}`)
  }

  async begin(): Promise<void> {
    this.#process = { dead: false }
    this.#supervisor = this.#device.supervisor(this.fake.engine(this.#process), {
      ...(this.#trial ? { trial: { stableMs: 2000, timeoutMs: 6000 } } : {}),
      ...(this.#fetched ? { targetFile: this.#file } : {}),
    })
    await this.#supervisor.start()
  }

  async end(): Promise<void> {
    this.#failures = []
    await this.#supervisor.stop()
    rmSync(this.#device.folder, { recursive: true, force: true })
  }

  get #file(): string {
    return join(this.#device.folder, 'target.json')
  }

  async play(happening: Happening): Promise<void> {
    switch (happening.do) {
      case 'target':
        return await this.#send(happening.apps, happening.force)
      case 'ask':
        return this.#ask(happening.what, happening.app, happening.service, happening.force)
      case 'lock':
      case 'unlock':
        return this.#lock(happening.do, happening.app, happening.service)
      case 'ends': {
        const box = this.#boxes(happening.app, happening.service)[0]
        if (box) this.fake.ends(box.id, happening.exitCode)
        return
      }
      case 'fail':
        this.#failures = [...happening.kinds]
        this.#failReads = happening.reads
        return
      case 'stranger': {
        const { app, service, at, commit } = happening
        const release = `${releaseOf(app, commit)}_${commitOf(app, commit)}`
        const name = `${SERVICES[service]}_${1001 + at}_${release}`
        if ([...this.fake.boxes.values()].every((box) => box.name !== name)) {
          this.#strangers.push(this.fake.foreign(name))
        }
        return
      }
      case 'cut':
        return this.fake.drop()
      case 'lose-images':
        return this.fake.pruneImages()
      case 'restart':
      case 'kill':
        this.#process.dead = happening.do === 'kill'
        await this.#supervisor.stop()
        return await this.begin()
      case 'wait':
        for (let left = happening.turns; left > 0; left--) await turn()
        return
      case 'rest':
        await this.rest()
        return
    }
  }

  #boxes(app: number, service: number) {
    return [...this.fake.boxes.values()].filter(
      ({ body: { Labels = {} } }) =>
        Labels[APP_ID] === String(APPS[app]) &&
        Labels['io.balena.service-name'] === SERVICES[service],
    )
  }

  #lock(what: 'lock' | 'unlock', app: number, service: number): void {
    const folder = join(this.#device.lockRoot, String(APPS[app]), SERVICES[service] as string)
    if (what === 'unlock') rmSync(join(folder, 'updates.lock'), { force: true })
    else if (existsSync(folder)) writeFileSync(join(folder, 'updates.lock'), 'theirs')
  }

  async #send(apps: readonly (AppDraft | undefined)[], force: boolean): Promise<void> {
    const before = this.#wanted
    const body = targetOf(apps)
    // Whatever it is now, it may be on its way to something else.
    if (this.#fetched) {
      writeFileSync(this.#file, JSON.stringify(body))
      await this.#supervisor.update({ force })
    } else await this.#supervisor.setTarget(body, { force })
    this.#wanted = apps
    this.#accepted = true
    for (const [app, appId] of APPS.entries()) {
      // What the target gave up may go.
      if (this.#fetched && apps[app] === undefined) {
        for (const name of this.#volumes.keys()) {
          if (name.startsWith(`${appId}_`)) this.#volumes.delete(name)
        }
      }
      for (const [service, name] of SERVICES.entries()) {
        const key = `${appId} ${name}`
        const [old, now] = [before, apps].map((one) =>
          JSON.stringify([one[app]?.services[service], one[app]?.services.length]),
        )
        if (old === now) continue
        if (!this.#running.has(key)) continue
        this.#running.set(key, undefined)
      }
    }
  }

  #ask(what: Ask, app: number, service: number, force: boolean): void {
    const supervisor = this.#supervisor
    const appId = APPS[app] as number
    const serviceName = SERVICES[service] as string
    const one = { appId, serviceName }
    const how: OperationOptions = { force }
    const concerned = what.endsWith('app') || what === 'purge' ? [...SERVICES] : [serviceName]
    const requests: Record<Ask, () => Promise<unknown>> = {
      start: () => supervisor.startService(one, how),
      stop: () => supervisor.stopService(one, how),
      restart: () => supervisor.restartService(one, how),
      'restart-app': () => supervisor.restartApp(appId, how),
      purge: () => supervisor.purgeApp(appId, how),
      update: () => supervisor.update(how),
      cancel: () => supervisor.update({ ...how, cancel: true }),
    }
    if (what === 'purge') {
      for (const name of this.#volumes.keys()) {
        if (name.startsWith(`${appId}_`)) this.#volumes.delete(name)
      }
    }
    const quiet = this.#open.size === 0
    const told = [...concerned].map((name) => `${appId} ${name}`)
    const known = what === 'update' || what === 'cancel'
    if (!known) for (const key of told) this.#running.set(key, undefined)
    const answer = requests[what]().then(
      (id) => {
        if (known || !quiet || this.#open.size > 1) return
        if (what !== 'stop') {
          for (const key of told) this.#running.set(key, true)
          return
        }
        const box = this.fake.boxes.get(id as string)
        if (box?.body.Labels?.[HASH] !== this.#expected(app, service)) return
        this.#running.set(`${appId} ${serviceName}`, false)
      },
      (error: Error) => {
        assert.match(error.name, /^(SupervisorError|LockError)$/, `${what}: ${error.stack}`)
      },
    )
    this.#open.add(answer)
    void answer.finally(() => this.#open.delete(answer)).catch(() => {})
  }

  /** The identity of what was asked for last. */
  #expected(app: number, service: number): string | undefined {
    return this.#device.hashOf(
      targetOf(this.#wanted),
      APPS[app] as number,
      SERVICES[service] as string,
    )
  }

  /** Nothing is in the way any more: everything comes to its end by itself, and is right. */
  async rest(): Promise<void> {
    this.#failures = []
    for (const id of this.#strangers.splice(0)) this.fake.leaves(id)
    for (const [app] of APPS.entries()) {
      for (const [service] of SERVICES.entries()) this.#lock('unlock', app, service)
    }
    const supervisor = this.#supervisor
    const isAtRest = () => {
      if (supervisor.notReady() !== undefined || this.#open.size > 0) return false
      if (!this.#accepted) return true
      // A file that was written is read in a while.
      const { target } = this.#device.accepts(targetOf(this.#wanted))
      if (!isDeepStrictEqual(supervisor.target().target, target)) return false
      const { appState, updateFailed } = supervisor.status()
      if (appState !== 'applied') return false
      if (updateFailed && !supervisor.apps().some(isRolledBack)) return false
      // Its locks are given back when an app is done already.
      if (readdirSync(this.#device.lockRoot).some((name) => name.endsWith('.lock'))) return false
      return [...this.fake.boxes.values()].every(({ state }) => state !== 'restarting')
    }
    const begun = this.#clock.elapsed()
    // What ended by itself is looked at in a moment, and the answer takes a while.
    for (let quiet = 0; quiet < 20; ) {
      if (this.#clock.elapsed() - begun > REST_MS) {
        assert.fail(`it never comes to rest: ${this.#describe()}`)
      }
      quiet = isAtRest() ? quiet + 1 : 0
      await (quiet > 0 ? turn() : this.#clock.pause(1))
    }
    this.#check()
  }

  #describe(): string {
    const supervisor = this.#supervisor
    const apps = supervisor.apps().map((app) => ({
      ...app,
      services: app.services.map(
        ({ serviceName, status, container }) => `${serviceName} ${status} ${container?.name}`,
      ),
    }))
    return JSON.stringify(
      {
        seed: this.#seed,
        open: this.#open.size,
        status: supervisor.status(),
        health: supervisor.health(),
        apps,
        boxes: [...this.fake.boxes.values()].map(
          ({ id, name, state }) => `${id.slice(0, 6)} ${name} ${state}`,
        ),
        calls: this.fake.calls.slice(-30),
        messages: this.#device.messages().slice(-40),
      },
      undefined,
      1,
    )
  }

  #check(): void {
    const { fake } = this
    const supervisor = this.#supervisor
    const say = (what: string) => `${what}: ${this.#describe()}`
    assert.ok(fake.boxes.has(this.#foreign.box), 'the container of a stranger')
    assert.ok(fake.vols.has(this.#foreign.vol), 'the volume of a stranger')
    assert.deepEqual(supervisor.health().problems, [])
    for (const [name, where] of this.#volumes) {
      assert.equal(fake.vols.get(name)?.Mountpoint, where, say(`volume ${name} is as it was`))
    }
    if (!this.#accepted) return
    const expected: string[] = []
    const nets: string[] = []
    for (const [app, draft] of this.#wanted.entries()) {
      if (draft === undefined) continue
      const appId = APPS[app] as number
      const view = supervisor.app(appId)
      assert.ok(view)
      const back = isRolledBack(view)
      if (!back) {
        assert.equal(view.updateStatus, 'done', say(`app ${appId}`))
        assert.equal(view.appliedCommit, commitOf(app, draft.commit), say('the commit'))
      }
      assert.equal(view.problem, undefined)
      for (const name of ['default', 'back', 'front']) nets.push(`${appId}_${name}`)
      for (const name of ['data', 'logs']) {
        const made = fake.vols.get(`${appId}_${name}`)
        assert.ok(made, say(`volume ${name} of ${appId}`))
        this.#volumes.set(made.Name, made.Mountpoint)
      }
      for (const [service, wanted] of draft.services.entries()) {
        if (wanted === undefined) continue
        const name = SERVICES[service] as string
        const key = `${appId} ${name}`
        const boxes = this.#boxes(app, service)
        assert.equal(boxes.length, 1, say(`containers of ${key}`))
        const [box] = boxes as [(typeof boxes)[0]]
        expected.push(box.id)
        const kept = back && box.body.Labels?.[HASH] !== this.#expected(app, service)
        if (!kept) {
          const { Labels, Env, Image } = box.body
          assert.equal(Labels?.[HASH], this.#expected(app, service), say(`hash of ${key}`))
          assert.ok(Env?.includes(`A=${wanted.environment}`), say(`environment of ${key}`))
          assert.equal(Image, fake.imgs.get(`registry.test/i${wanted.image}:1`), say(key))
          assert.ok(box.name.endsWith(`_${commitOf(app, draft.commit)}`), say('the name'))
          assert.equal(box.policy, wanted.restart, say(`restart policy of ${key}`))
        }
        const seen: ServiceView | undefined = view.services.find(
          ({ serviceName }) => serviceName === name,
        )
        const running = box.state === 'running'
        const must = this.#running.get(key)
        const stopped = seen?.stoppedByUser === true
        const alone = view.waits.includes(
          `${name} waits for ${ownerOf(draft, service)}, whose network it shares`,
        )
        if (alone) assert.ok(!running, say(`${key} shares the network of nothing that runs`))
        else if (!wanted.running) assert.ok(!running, say(`${key} shall not run`))
        else if (must === false) {
          assert.ok(!running, say(`${key} was stopped`))
          assert.ok(stopped, say(`${key} was stopped by the user`))
        } else if (stopped) {
          assert.ok(!running, say(`${key} was stopped`))
          assert.equal(must, undefined, say(`${key} was started`))
        } else if (box.policy === 'always') assert.ok(running, say(`${key} runs`))
        assert.equal(seen?.status === 'Running', running, say(`status of ${key}`))
        assert.equal(seen?.container?.id, box.id)
        const { releases } = reportedApps([view])[view.uuid] as {
          releases: Record<string, { services: Record<string, { status: string }> }>
        }
        assert.equal(releases[commitOf(app, draft.commit)]?.services[name]?.status, seen?.status)
      }
    }
    const ours = [...fake.boxes.values()].filter(({ body }) => body.Labels?.[APP_ID] !== undefined)
    assert.deepEqual(ours.map(({ id }) => id).sort(), expected.sort(), say('left-over containers'))
    assert.deepEqual(
      [...fake.nets.values()]
        .map(({ Name }) => Name)
        .filter((name) => name !== 'bridge')
        .sort(),
      nets.sort(),
      say('networks'),
    )
    for (const app of readdirSync(this.#device.lockRoot, { recursive: true })) {
      assert.ok(!String(app).endsWith('.lock'), say(`lock ${app} is left over`))
    }
  }

  /** Everything stays when the daemon starts again, and everything goes that nobody wants. */
  async finish(): Promise<void> {
    await this.rest()
    const ids = [...this.fake.boxes.keys()]
    await this.play({ do: 'restart' })
    this.fake.calls.length = 0
    await this.rest()
    assert.deepEqual(this.fake.writes, [], 'a start changes nothing')
    assert.deepEqual([...this.fake.boxes.keys()], ids)
    this.#volumes.clear()
    await this.play({ do: 'target', apps: [], force: false })
    await this.rest()
    await this.#supervisor.cleanupVolumes()
    assert.deepEqual([...this.fake.boxes.keys()], [this.#foreign.box])
    assert.deepEqual([...this.fake.vols.keys()], [this.#foreign.vol])
    mkdirSync(this.#device.folder, { recursive: true })
  }
}

function releaseOf(app: number, commit: number): number {
  return 10 * (APPS[app] as number) + commit
}

function commitOf(app: number, commit: number): string {
  return `c${commit}of${APPS[app]}`
}

/** The service before it. */
function ownerOf({ services }: AppDraft, service: number): string | undefined {
  const before = services.slice(0, service).findLastIndex((one) => one !== undefined)
  return SERVICES[before]
}

function isRolledBack({ updateStatus, waits }: AppView): boolean {
  return updateStatus === 'aborted' && waits.some((one) => /before a failed update/.test(one))
}

function targetOf(apps: readonly (AppDraft | undefined)[]): object {
  const all = {}
  for (const [index, app] of apps.entries()) {
    if (app === undefined) continue
    const services: Record<string, ServiceInput> = {}
    let before: string | undefined
    for (const [at, draft] of app.services.entries()) {
      if (draft === undefined) continue
      const name = SERVICES[at] as string
      const shares = draft.after === 'network' && before !== undefined
      services[name] = {
        image: `registry.test/i${draft.image}:1`,
        environment: { A: String(draft.environment) },
        labels: {
          mine: String(draft.label),
          'io.balena.update.strategy': draft.strategy,
          'io.balena.update.handover-timeout': '1000',
        },
        running: draft.running,
        restart: draft.restart,
        volumes: draft.volumes.map((volume) => `${volume}:/${volume}`),
        ...(shares ? { network_mode: `service:${before}` } : { networks: draft.networks }),
        ...(draft.after === 'depends' && before ? { depends_on: [before] } : {}),
      }
      before = name
    }
    const { local } = target(services, {
      appId: APPS[index] as number,
      commit: commitOf(index, app.commit),
      // Names of containers are made from it.
      releaseId: releaseOf(index, app.commit),
      networks: { back: { labels: { n: String(app.network) } }, front: {} },
      volumes: { data: { labels: { n: String(app.volume) } }, logs: {} },
    }) as { local: { apps: object } }
    Object.assign(all, local.apps)
  }
  return { local: { name: 'box', config: { SUPERVISOR_POLL_INTERVAL: '20000' }, apps: all } }
}
