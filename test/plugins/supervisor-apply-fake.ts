import { createHash } from 'node:crypto'
import type { ContainerDetails } from '../../src/engine/containers.ts'
import type { Engine } from '../../src/engine/engine.ts'
import { EngineError, type EngineErrorCode } from '../../src/engine/error.ts'
import type { EngineEvent } from '../../src/engine/events.ts'
import type { Network } from '../../src/engine/networks.ts'
import type { Volume } from '../../src/engine/volumes.ts'

interface Body {
  readonly Image: string
  readonly Env?: readonly string[]
  readonly Labels?: Record<string, string>
  readonly HostConfig?: {
    readonly NetworkMode?: string
    readonly RestartPolicy?: { readonly Name: string }
    readonly Mounts?: readonly { Type: string; Source?: string; Target: string }[]
  }
}

interface Box {
  readonly id: string
  name: string
  readonly body: Body
  state: string
  startedAt: string
  exitCode: number
  policy: string
  readonly createdAt: string
  readonly networks: Set<string>
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] }

/** An engine in memory, below the interface of the client: counts calls, and fails as told. */
export class FakeEngine {
  readonly boxes = new Map<string, Box>()
  readonly nets = new Map<string, Mutable<Network>>()
  readonly vols = new Map<string, Mutable<Volume>>()
  /** Names to ids. */
  readonly imgs = new Map<string, string>()
  /** `containers.create api_1001_1_c1`, `networks.list`: every call, in order. */
  readonly calls: string[] = []
  /** Asked before each call is done: what it throws is the answer. */
  before: (call: string) => void | Promise<void> = () => {}
  /** Asked after each call is done: the answer is lost when it throws. */
  after: (call: string) => void = () => {}
  /** Who pulled, by image. */
  readonly credentials = new Map<string, unknown>()
  /** What pulling an image does. */
  pulling: (image: string, signal: AbortSignal | undefined) => Promise<void> = async () => {}
  #count = 0
  #followers = new Set<(event: EngineEvent | undefined) => void>()

  constructor() {
    this.imgs.set('cvmd-test:latest', idOf('cvmd-test'))
    this.#net('bridge', {})
  }

  get reads(): string[] {
    return this.calls.filter((call) => /\.(list|inspect)/.test(call))
  }

  get writes(): string[] {
    return this.calls.filter((call) => !/\.(list|inspect|read)/.test(call))
  }

  box(serviceName: string): Box | undefined {
    return [...this.boxes.values()].find(
      ({ body, name }) =>
        body.Labels?.['io.balena.service-name'] === serviceName && !name.startsWith('old_'),
    )
  }

  /** It ends by itself; the engine starts it again where its policy says so. */
  ends(id: string, exitCode: number): void {
    const box = this.#box(id)
    if (box.state !== 'running') return
    this.stopped(id, exitCode)
    const again = ['always', 'unless-stopped'].includes(box.policy)
    if (!again && !(box.policy === 'on-failure' && exitCode !== 0)) return
    box.state = 'restarting'
    setTimeout(() => {
      if (box.state !== 'restarting') return
      box.state = 'running'
      box.startedAt = new Date(Date.now()).toISOString()
      this.#tell('container', 'start', id, box.body.Labels)
    }, 1)
  }

  /** Somebody else's doing. */
  stopped(id: string, exitCode = 1): void {
    const box = this.#box(id)
    box.state = 'exited'
    box.exitCode = exitCode
    this.#tell('container', 'die', id, box.body.Labels)
  }

  foreign(name: string): string {
    const { id } = this.#make(name, { Image: 'cvmd-test:latest' })
    this.#tell('container', 'create', id, {})
    return id
  }

  /** A stranger's container goes. */
  leaves(id: string): void {
    if (this.boxes.delete(id)) this.#tell('container', 'destroy', id, {})
  }

  /** Images go that no container was made from. */
  pruneImages(): void {
    for (const [name, id] of this.imgs) {
      if ([...this.boxes.values()].some(({ body }) => body.Image === id)) continue
      this.imgs.delete(name)
      this.#tell('image', 'delete', id)
    }
  }

  /** The stream of events ends. */
  drop(): void {
    for (const follower of [...this.#followers]) follower(undefined)
  }

  /** @param process Who asks: one that is dead gets nothing through, and no answer. */
  engine(process = { dead: false }): Engine {
    const fake = this
    const assertAlive = () => {
      if (process.dead) throw err('UNREACHABLE')
    }
    const call = async <T>(name: string, work: () => T | Promise<T>): Promise<T> => {
      assertAlive()
      fake.calls.push(name)
      await fake.before(name)
      // As over a socket: never in the same turn.
      await new Promise((turn) => setImmediate(turn))
      assertAlive()
      const answer = await work()
      fake.after(name)
      assertAlive()
      return answer
    }
    const engine = {
      socketPath: '/fake',
      containers: {
        list: () => call('containers.list', () => [...fake.boxes.values()].map(summaryOf)),
        inspect: (id: string) =>
          call(`containers.inspect ${id}`, () => fake.#details(fake.#box(id))),
        create: (name: string, body: Body) =>
          call(`containers.create ${name}`, () => {
            if ([...fake.boxes.values()].some((box) => box.name === name)) throw err('CONFLICT')
            const box = fake.#make(name, body)
            fake.#tell('container', 'create', box.id, body.Labels)
            return { Id: box.id, Warnings: [] }
          }),
        start: (id: string) =>
          call(`containers.start ${id}`, () => {
            const box = fake.#box(id)
            const names = [...fake.nets.values()].map(({ Name }) => Name)
            // The gateways of modes are not in the list of this engine.
            const gone = [...box.networks].find(
              (name) => /^[0-9]/.test(name) && !names.includes(name),
            )
            if (gone !== undefined) throw err('NOT_FOUND', `network ${gone} not found`)
            const [, owner] = /^container:(.*)/.exec(box.body.HostConfig?.NetworkMode ?? '') ?? []
            if (owner !== undefined && fake.boxes.get(owner)?.state !== 'running') {
              throw err('CONFLICT', 'cannot join network of a non running container')
            }
            const was = box.state === 'running'
            box.state = 'running'
            box.startedAt = new Date(Date.now()).toISOString()
            if (!was) fake.#tell('container', 'start', id, box.body.Labels)
            return !was
          }),
        stop: (id: string) =>
          call(`containers.stop ${id}`, () => {
            const box = fake.#box(id)
            if (box.state !== 'running' && box.state !== 'restarting') return false
            box.state = 'exited'
            box.exitCode = 137
            for (const action of ['kill', 'die', 'stop']) {
              fake.#tell('container', action, id, box.body.Labels)
            }
            return true
          }),
        remove: (id: string, { force = false } = {}) =>
          call(`containers.remove ${id}`, () => {
            const box = fake.#box(id)
            if (['running', 'restarting'].includes(box.state) && !force) throw err('CONFLICT')
            fake.boxes.delete(box.id)
            fake.#tell('container', 'destroy', id, box.body.Labels)
          }),
        rename: (id: string, name: string) =>
          call(`containers.rename ${id}`, () => {
            if ([...fake.boxes.values()].some((box) => box.name === name)) throw err('CONFLICT')
            fake.#box(id).name = name
            fake.#tell('container', 'rename', id, fake.#box(id).body.Labels)
          }),
        update: (id: string, body: { RestartPolicy: { Name: string } }) =>
          call(`containers.update ${id}`, () => {
            fake.#box(id).policy = body.RestartPolicy.Name
          }),
        async *logs() {},
      },
      images: {
        list: () =>
          call('images.list', () => [...new Set(fake.imgs.values())].map((id) => fake.#image(id))),
        inspect: (name: string) => call(`images.inspect ${name}`, () => fake.#image(name)),
        pull: (
          image: string,
          { signal, credentials }: { signal?: AbortSignal; credentials?: unknown } = {},
        ) =>
          call(`images.pull ${image}`, async () => {
            fake.credentials.set(image, credentials)
            await fake.pulling(image, signal)
            fake.imgs.set(image, idOf(image))
            fake.#tell('image', 'pull', image, {})
          }),
        remove: (image: string) =>
          call(`images.remove ${image}`, () => {
            const id = fake.imgs.get(image)
            const last = [...fake.imgs.values()].filter((one) => one === id).length === 1
            const used = [...fake.boxes.values()].some(({ body }) => body.Image === id)
            if (last && used) throw err('CONFLICT', 'it is being used')
            if (!fake.imgs.delete(image)) throw err('NOT_FOUND')
          }),
      },
      networks: {
        list: ({ names }: { names?: string[] } = {}) =>
          call('networks.list', () =>
            [...fake.nets.values()].filter(
              ({ Name }) => !names || names.some((part) => Name.includes(part)),
            ),
          ),
        inspect: (id: string) =>
          call(`networks.inspect ${id}`, () => fake.nets.get(id) ?? raise('NOT_FOUND')),
        create: (body: { Name: string; Labels?: Record<string, string> }) =>
          call(`networks.create ${body.Name}`, () => {
            const there = [...fake.nets.values()].some(({ Name }) => Name === body.Name)
            if (there) throw err('CONFLICT')
            const { Id } = fake.#net(body.Name, body.Labels ?? {})
            fake.#tell('network', 'create', Id, { name: body.Name })
            return Id
          }),
        remove: (id: string) =>
          call(`networks.remove ${id}`, () => {
            const name = fake.nets.get(id)?.Name ?? ''
            const attached = [...fake.boxes.values()].some(
              ({ state, networks }) => state === 'running' && networks.has(name),
            )
            if (attached) throw err('CONFLICT', 'it has active endpoints')
            if (!fake.nets.delete(id)) throw err('NOT_FOUND')
            fake.#tell('network', 'destroy', id, {})
          }),
        connect: (name: string, id: string) =>
          call(`networks.connect ${name}`, () => void fake.#box(id).networks.add(name)),
      },
      volumes: {
        list: () => call('volumes.list', () => [...fake.vols.values()]),
        inspect: (name: string) =>
          call(`volumes.inspect ${name}`, () => fake.vols.get(name) ?? raise('NOT_FOUND')),
        create: (body: { Name: string; Labels?: Record<string, string> }) =>
          call(`volumes.create ${body.Name}`, () => {
            const known = fake.vols.get(body.Name)
            if (known) return known
            const volume = {
              Name: body.Name,
              Driver: 'local',
              Mountpoint: `/v/${++fake.#count}`,
              Labels: body.Labels ?? {},
              Options: {},
              CreatedAt: new Date(Date.now()).toISOString(),
            }
            fake.vols.set(body.Name, volume)
            fake.#tell('volume', 'create', body.Name, {})
            return volume
          }),
        remove: (name: string) =>
          call(`volumes.remove ${name}`, () => {
            const used = [...fake.boxes.values()].some((box) =>
              mountsOf(box).some(({ Name }) => Name === name),
            )
            if (used) throw err('CONFLICT', 'it is in use')
            if (!fake.vols.delete(name)) throw err('NOT_FOUND')
            fake.#tell('volume', 'destroy', name, {})
          }),
      },
      events: {
        async *read({ signal, onOpen }: { signal?: AbortSignal; onOpen?: () => void } = {}) {
          fake.calls.push('events.read')
          await fake.before('events.read')
          const queue: (EngineEvent | undefined)[] = []
          let wake = () => {}
          const take = (event: EngineEvent | undefined) => {
            queue.push(event)
            wake()
          }
          fake.#followers.add(take)
          signal?.addEventListener('abort', () => wake())
          try {
            onOpen?.()
            for (;;) {
              signal?.throwIfAborted()
              if (queue.length === 0) {
                await new Promise<void>((resolve) => {
                  wake = resolve
                })
                continue
              }
              const event = queue.shift()
              if (event === undefined) throw err('UNREACHABLE')
              yield event
            }
          } finally {
            fake.#followers.delete(take)
          }
        },
      },
    }
    return engine as unknown as Engine
  }

  #make(name: string, body: Body): Box {
    const mode = body.HostConfig?.NetworkMode
    const box: Box = {
      id: idOf(`box ${++this.#count}`).slice(7),
      name,
      body,
      state: 'created',
      startedAt: '0001-01-01T00:00:00Z',
      exitCode: 0,
      policy: body.HostConfig?.RestartPolicy?.Name ?? 'no',
      createdAt: new Date(Date.now()).toISOString(),
      networks: new Set(mode ? [mode] : []),
    }
    this.boxes.set(box.id, box)
    return box
  }

  #net(Name: string, Labels: Record<string, string>): Network {
    const Id = idOf(`net ${++this.#count}`).slice(7)
    const network = { Id, Name, Labels, IPAM: { Driver: 'default', Config: [] } }
    this.nets.set(Id, network as unknown as Network)
    return network as unknown as Network
  }

  #box(idOrName: string): Box {
    const named = [...this.boxes.values()].find(({ name }) => name === idOrName)
    return this.boxes.get(idOrName) ?? named ?? raise('NOT_FOUND')
  }

  #image(name: string) {
    const Id = name.startsWith('sha256:') ? name : this.imgs.get(name)
    const tags = [...this.imgs].filter(([, id]) => id === Id).map(([tag]) => tag)
    const used = [...this.boxes.values()].some(({ body }) => body.Image === Id)
    if (Id === undefined || (tags.length === 0 && !used)) throw err('NOT_FOUND')
    return { Id, RepoTags: tags, RepoDigests: [], Labels: {}, Size: 1, Config: { Env: [] } }
  }

  #details(box: Box): ContainerDetails {
    return {
      Id: box.id,
      Name: `/${box.name}`,
      Created: box.createdAt,
      Image: box.body.Image,
      RestartCount: 0,
      State: {
        Status: box.state,
        Running: box.state === 'running',
        Restarting: false,
        OOMKilled: false,
        ExitCode: box.exitCode,
        Error: '',
        StartedAt: box.startedAt,
        FinishedAt: '',
        Health: undefined,
      },
      Config: {
        Image: box.body.Image,
        Tty: true,
        Hostname: '',
        Env: box.body.Env ?? [],
        Labels: box.body.Labels ?? {},
      },
      HostConfig: {
        NetworkMode: '',
        RestartPolicy: { Name: box.policy, MaximumRetryCount: 0 },
      },
      Mounts: mountsOf(box),
      NetworkSettings: {
        Networks: Object.fromEntries(
          [...box.networks].map((name) => [name, { NetworkID: '', IPAddress: '', Aliases: [] }]),
        ),
      },
    }
  }

  #tell(type: string, action: string, id: string, attributes: Record<string, string> = {}): void {
    const event = { type, action, id, attributes, timeMs: Date.now() }
    for (const follower of this.#followers) follower(event)
  }
}

function summaryOf(box: Box) {
  return {
    Id: box.id,
    Names: [`/${box.name}`],
    Image: box.body.Image,
    ImageID: box.body.Image,
    State: box.state,
    Labels: box.body.Labels ?? {},
    Created: 0,
    Mounts: mountsOf(box),
  }
}

function mountsOf({ body }: Box) {
  const mounts = body.HostConfig?.Mounts ?? []
  return mounts.map(({ Type, Source = '', Target }) => ({
    Type,
    Name: Type === 'volume' ? Source : '',
    Source,
    Destination: Target,
  }))
}

function idOf(text: string): string {
  return `sha256:${createHash('sha256').update(text).digest('hex')}`
}

export function err(code: string, reason = 'as the test says'): EngineError {
  return new EngineError(`ENGINE_${code}` as EngineErrorCode, 'do it', reason)
}

function raise(code: string): never {
  throw err(code)
}
