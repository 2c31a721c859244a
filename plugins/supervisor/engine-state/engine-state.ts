import type { Engine } from '../../../src/engine/engine.ts'
import { isEngineError } from '../../../src/engine/error.ts'
import { type EngineEvent, followEvents } from '../../../src/engine/events.ts'
import type { ImageDetails } from '../../../src/engine/images.ts'
import type { Network } from '../../../src/engine/networks.ts'
import { messageOf } from '../../../src/errors.ts'
import { imageKey } from '../compose/image-key.ts'
import {
  isSupervisorNetwork,
  SUPERVISOR_NETWORK,
  type SupervisorSubnet,
} from '../compose/supervisor-network.ts'
import type { Current, CurrentImage, CurrentNetwork, CurrentVolume } from '../plan/current.ts'
import {
  type ForeignContainer,
  foreignContainer,
  type KnownContainer,
  type KnownImage,
  knownContainer,
  knownImage,
  knownNetwork,
  knownVolume,
  ownerOf,
} from './objects.ts'

export interface EngineStateOptions {
  readonly engine: Engine
  readonly subnet?: SupervisorSubnet | undefined
  /** Something is not as it was. */
  readonly onChange: () => void
  /** The engine came or went. */
  readonly onConnection?: (connected: boolean, reason: string) => void
}

/** The part of {@link Current} that the engine knows. */
export type EngineObjects = Pick<
  Current,
  'containers' | 'networks' | 'volumes' | 'images' | 'supervisorNetwork'
> & { readonly taken: NonNullable<Current['taken']> }

/** What changes nothing that is kept here; an engine says much (`exec_start`, `top`, `attach`). */
const CONTAINER_ACTIONS =
  /^(?:create|start|restart|die|stop|pause|unpause|rename|update|oom|health_status|destroy|connect)/

/** Within this time after we looked ourselves, an event that is older than the look says nothing. */
const ECHO_MS = 2000
/** Until the lists are asked for again, when one of them failed. */
const RELOAD_MS = 1000
const MAX_GONE = 1000

/**
 * The engine's objects in memory (spec §23.1): one list of each kind when the engine is there, then
 * its event stream, and a look at what changed. No call is made while nothing happens. What belongs
 * to strangers is kept only as far as it takes names or uses images and volumes.
 */
export class EngineState {
  readonly #options: EngineStateOptions
  readonly #containers = new Map<string, KnownContainer>()
  readonly #foreign = new Map<string, ForeignContainer>()
  readonly #networks = new Map<string, CurrentNetwork>()
  readonly #foreignNetworks = new Map<string, string>()
  readonly #volumes = new Map<string, CurrentVolume>()
  readonly #foreignVolumes = new Set<string>()
  readonly #images = new Map<string, KnownImage>()
  readonly #details = new Map<string, ImageDetails>()
  /** By container id: when we last looked, by both clocks. */
  readonly #looks = new Map<string, { readonly wall: number; readonly steady: number }>()
  /** By container id: the latest look that was answered. */
  readonly #answered = new Map<string, number>()
  /** Containers that were removed lately: an answer about one may still be on its way. */
  readonly #gone = new Set<string>()
  #supervisorNetwork: Current['supervisorNetwork'] = 'absent'
  /** Events of before the lists are through. */
  #early: EngineEvent[] | undefined
  /** Grows with every connection: what an older one answers does not count. */
  #epoch = 0
  #connected = false
  #problem = 'it was not asked yet'
  #ended: Promise<void> | undefined
  #signal: AbortSignal | undefined
  /** The events come. */
  #streaming = false
  #timer: ReturnType<typeof setTimeout> | undefined
  /** Containers that are to be looked at in a moment. */
  readonly #due = new Set<string>()
  /** How many things are being done with a container just now. */
  readonly #inHand = new Map<string, number>()

  constructor(options: EngineStateOptions) {
    this.#options = options
  }

  /** Follows the engine until the signal aborts, whether it is there or not. */
  start(signal: AbortSignal): void {
    this.#signal = signal
    this.#ended ??= followEvents(this.#options.engine, {
      signal,
      onConnected: () => {
        this.#streaming = true
        void this.#load(++this.#epoch, signal)
      },
      onEvent: (event) => {
        if (this.#early) this.#early.push(event)
        else void this.#take(event, this.#epoch)
      },
      onLost: (error) => this.#lose(error),
    })
  }

  /** Resolves when nothing is followed any more. */
  async ended(): Promise<void> {
    await this.#ended
  }

  /** What is kept is what the engine has. */
  get connected(): boolean {
    return this.#connected
  }

  /** Why it is not {@link connected}. */
  get problem(): string {
    return this.#problem
  }

  container(id: string): KnownContainer | undefined {
    return this.#containers.get(id)
  }

  containers(): IterableIterator<KnownContainer> {
    return this.#containers.values()
  }

  containersOf(appId: number): KnownContainer[] {
    return [...this.#containers.values()].filter((one) => one.appId === appId)
  }

  /** The engine's id of what a reference names now. */
  imageId(reference: string): string | undefined {
    const key = imageKey(reference)
    for (const { id, names } of this.#images.values()) if (names.includes(key)) return id
    return undefined
  }

  /** Names of volumes that any container mounts. */
  mountedVolumes(): Set<string> {
    const all = [...this.#containers.values(), ...this.#foreign.values()]
    return new Set(all.flatMap(({ volumes }) => volumes))
  }

  volumes(): IterableIterator<CurrentVolume> {
    return this.#volumes.values()
  }

  /** @param owned References (as `imageKey`) that were pulled by us. */
  objects(owned: ReadonlySet<string>): EngineObjects {
    const used = new Set<string>()
    for (const { imageId } of this.#containers.values()) used.add(imageId)
    for (const { imageId } of this.#foreign.values()) used.add(imageId)
    const images = [...this.#images.values()].map(
      ({ id, names }): CurrentImage => ({
        id,
        names,
        owned: names.filter((name) => owned.has(name)),
        inUse: used.has(id),
      }),
    )
    return {
      containers: [...this.#containers.values()],
      networks: [...this.#networks.values()],
      volumes: [...this.#volumes.values()],
      images,
      supervisorNetwork: this.#supervisorNetwork,
      taken: {
        containers: new Set([...this.#foreign.values()].flatMap(({ names }) => names)),
        networks: new Set(this.#foreignNetworks.values()),
        volumes: this.#foreignVolumes,
      },
    }
  }

  /** What the engine says of an image; asked once for each id. */
  async imageDetails(id: string, signal?: AbortSignal): Promise<ImageDetails> {
    const known = this.#details.get(id)
    if (known) return known
    const details = await this.#options.engine.images.inspect(id, { signal })
    this.#details.set(id, details)
    return details
  }

  /*
   * To be told of what was done, so that the next plan knows it before the events come.
   */

  /** Looks at a container again; one that is gone is forgotten. */
  async refresh(id: string, signal?: AbortSignal): Promise<KnownContainer | undefined> {
    await this.#lookAtContainer(id, this.#epoch, signal)
    return this.#containers.get(id)
  }

  /**
   * Does something with a container and looks at it afterwards, whether it succeeded or not: it may
   * have been done all the same. What happens to it meanwhile is not looked at one by one.
   */
  async during<T>(id: string, work: () => Promise<T>): Promise<T> {
    this.#inHand.set(id, (this.#inHand.get(id) ?? 0) + 1)
    try {
      return await work()
    } finally {
      const others = (this.#inHand.get(id) ?? 1) - 1
      if (others > 0) this.#inHand.set(id, others)
      else this.#inHand.delete(id)
      // An engine that is away tells everything when it is back.
      await this.refresh(id).catch(() => undefined)
    }
  }

  forget(containerId: string): void {
    const had = this.#containers.delete(containerId)
    this.#looks.delete(containerId)
    this.#answered.delete(containerId)
    this.#gone.add(containerId)
    const [oldest = ''] = this.#gone
    if (this.#gone.size > MAX_GONE) this.#gone.delete(oldest)
    if (had) this.#options.onChange()
  }

  addNetwork(network: CurrentNetwork): void {
    this.#networks.set(network.id, network)
    this.#options.onChange()
  }

  removeNetwork(id: string): void {
    if (this.#networks.delete(id)) this.#options.onChange()
  }

  addVolume(volume: CurrentVolume): void {
    this.#volumes.set(volume.name, volume)
    this.#options.onChange()
  }

  removeVolume(name: string): void {
    if (this.#volumes.delete(name)) this.#options.onChange()
  }

  /** Looks at an image again, by name or id. */
  async refreshImage(name: string, signal?: AbortSignal): Promise<void> {
    await this.#lookAtImage(name, this.#epoch, signal)
  }

  async refreshSupervisorNetwork(signal?: AbortSignal): Promise<void> {
    const { networks } = this.#options.engine
    const found = await networks.list({ names: [SUPERVISOR_NETWORK], signal })
    this.#judgeSupervisorNetwork(found)
    this.#options.onChange()
  }

  async #load(epoch: number, signal: AbortSignal): Promise<void> {
    this.#early = []
    const { containers, networks, volumes, images } = this.#options.engine
    try {
      const [boxes, nets, vols, imgs] = await Promise.all([
        containers.list({ signal }),
        networks.list({ signal }),
        volumes.list({ signal }),
        images.list({ signal }),
      ])
      const ours = boxes.filter(({ Labels }) => ownerOf(Labels) !== undefined)
      const looks = await Promise.all(
        ours.map(async ({ Id }) => {
          const look = now()
          try {
            return { look, details: await containers.inspect(Id, { signal }) }
          } catch (error) {
            if (isEngineError(error, 'ENGINE_NOT_FOUND')) return undefined
            throw error
          }
        }),
      )
      if (epoch !== this.#epoch) return
      this.#clear()
      for (const found of looks) {
        const known = found && knownContainer(found.details)
        if (!found || !known) continue
        this.#containers.set(known.id, known)
        this.#looks.set(known.id, found.look)
      }
      for (const box of boxes) {
        if (ownerOf(box.Labels) === undefined) this.#foreign.set(box.Id, foreignContainer(box))
      }
      for (const network of nets) this.#keepNetwork(network)
      this.#judgeSupervisorNetwork(nets)
      for (const volume of vols) {
        const known = knownVolume(volume)
        if (known) this.#volumes.set(known.name, known)
        else this.#foreignVolumes.add(volume.Name)
      }
      for (const image of imgs) this.#images.set(image.Id, knownImage(image))
    } catch (error) {
      if (epoch !== this.#epoch || signal.aborted) return
      // The stream is there and the lists are not.
      this.#problem = messageOf(error)
      this.#options.onConnection?.(false, this.#problem)
      return this.#loadSoon()
    }
    const early = this.#early ?? []
    this.#early = undefined
    this.#connected = true
    this.#problem = ''
    this.#options.onConnection?.(true, '')
    this.#options.onChange()
    for (const event of early) void this.#take(event, epoch)
  }

  #lose(error: unknown): void {
    this.#epoch++
    this.#streaming = false
    this.#early = undefined
    const was = this.#connected
    this.#connected = false
    const problem = messageOf(error)
    if (!was && problem === this.#problem) return
    this.#problem = problem
    this.#options.onConnection?.(false, problem)
    this.#options.onChange()
  }

  async #take(event: EngineEvent, epoch: number): Promise<void> {
    try {
      switch (event.type) {
        case 'container':
          return this.#takeContainer(event, epoch)
        case 'network':
          return await this.#takeNetwork(event, epoch)
        case 'volume':
          return await this.#takeVolume(event, epoch)
        case 'image':
          return await this.#takeImage(event, epoch)
      }
    } catch (error) {
      this.#mistrust(error, epoch)
    }
  }

  /** What is kept may be wrong now: all is read again. */
  #mistrust(error: unknown, epoch: number): void {
    if (epoch !== this.#epoch || this.#signal?.aborted) return
    this.#problem = messageOf(error)
    this.#loadSoon()
  }

  #loadSoon(): void {
    if (this.#timer || !this.#signal) return
    const signal = this.#signal
    const stop = () => clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      signal.removeEventListener('abort', stop)
      if (this.#streaming) void this.#load(++this.#epoch, signal)
    }, RELOAD_MS)
    signal.addEventListener('abort', stop, { once: true })
  }

  #takeContainer({ action, id, attributes, timeMs }: EngineEvent, epoch: number): void {
    if (!CONTAINER_ACTIONS.test(action)) return
    if (action === 'destroy') {
      this.#foreign.delete(id)
      this.forget(id)
      return
    }
    const foreign = ownerOf(attributes) === undefined && !this.#containers.has(id)
    if (foreign && action !== 'create' && action !== 'rename') return
    this.#lookAfter(id, timeMs, epoch)
  }

  /**
   * Looks at a container because of an event, unless we looked after it happened: what we did
   * ourselves comes back as events. Events that come together share a look.
   */
  #lookAfter(id: string, timeMs: number, epoch: number): void {
    const look = this.#looks.get(id)
    if (look && performance.now() - look.steady < ECHO_MS && timeMs < look.wall) return
    if (this.#inHand.has(id) || this.#due.has(id)) return
    this.#due.add(id)
    setImmediate(() => {
      this.#due.delete(id)
      if (this.#inHand.has(id)) return
      if (epoch !== this.#epoch || this.#signal?.aborted) return
      this.#lookAtContainer(id, epoch, this.#signal).catch((error) => this.#mistrust(error, epoch))
    })
  }

  async #lookAtContainer(id: string, epoch: number, signal?: AbortSignal): Promise<void> {
    const look = now()
    this.#looks.set(id, look)
    const found = await absent(() => this.#options.engine.containers.inspect(id, { signal }))
    if (epoch !== this.#epoch) return
    if (found === undefined) {
      this.#foreign.delete(id)
      return this.forget(id)
    }
    // A later look was faster, or it was removed meanwhile.
    if (this.#gone.has(id) || (this.#answered.get(id) ?? 0) > look.steady) return
    this.#answered.set(id, look.steady)
    const known = knownContainer(found)
    if (known) this.#containers.set(id, known)
    else {
      const { Id, Name, Image, Mounts } = found
      this.#foreign.set(id, foreignContainer({ Id, Names: [Name], ImageID: Image, Mounts }))
    }
    this.#options.onChange()
  }

  async #takeNetwork(
    { action, id, attributes, timeMs }: EngineEvent,
    epoch: number,
  ): Promise<void> {
    if (action === 'connect' || action === 'disconnect') {
      const container = attributes.container ?? ''
      if (this.#containers.has(container)) this.#lookAfter(container, timeMs, epoch)
      return
    }
    if (action === 'destroy') {
      const name = this.#networks.get(id)?.name ?? this.#foreignNetworks.get(id)
      this.#networks.delete(id)
      this.#foreignNetworks.delete(id)
      if (name === SUPERVISOR_NETWORK || attributes.name === SUPERVISOR_NETWORK) {
        this.#supervisorNetwork = 'absent'
      }
      return this.#options.onChange()
    }
    if (action !== 'create' || this.#networks.has(id)) return
    const found = await absent(() => this.#options.engine.networks.inspect(id))
    if (found === undefined || epoch !== this.#epoch) return
    this.#keepNetwork(found)
    if (found.Name === SUPERVISOR_NETWORK) this.#judgeSupervisorNetwork([found])
    this.#options.onChange()
  }

  async #takeVolume({ action, id }: EngineEvent, epoch: number): Promise<void> {
    if (action === 'destroy') {
      this.#volumes.delete(id)
      this.#foreignVolumes.delete(id)
      return this.#options.onChange()
    }
    if (action !== 'create' || this.#volumes.has(id) || this.#foreignVolumes.has(id)) return
    const found = await absent(() => this.#options.engine.volumes.inspect(id))
    if (found === undefined || epoch !== this.#epoch) return
    const known = knownVolume(found)
    if (known) this.#volumes.set(id, known)
    else this.#foreignVolumes.add(id)
    this.#options.onChange()
  }

  async #takeImage({ action, id }: EngineEvent, epoch: number): Promise<void> {
    if (action === 'delete') {
      this.#images.delete(id)
      this.#details.delete(id)
      return this.#options.onChange()
    }
    // Of a pull the id is the name, of all others the id.
    if (['pull', 'tag', 'untag', 'import', 'load'].includes(action)) {
      await this.#lookAtImage(id, epoch, this.#signal)
    }
  }

  async #lookAtImage(name: string, epoch: number, signal?: AbortSignal): Promise<void> {
    const found = await absent(() => this.#options.engine.images.inspect(name, { signal }))
    if (epoch !== this.#epoch) return
    if (found === undefined) this.#loseImage(name)
    else {
      const image = knownImage(found)
      // A name that moved is no longer another one's.
      for (const [id, other] of this.#images) {
        if (id === image.id || !other.names.some((one) => image.names.includes(one))) continue
        const names = other.names.filter((one) => !image.names.includes(one))
        this.#images.set(id, { id, names })
      }
      this.#images.set(image.id, image)
      this.#details.set(image.id, found)
    }
    this.#options.onChange()
  }

  /** @param name Or id. */
  #loseImage(name: string): void {
    this.#images.delete(name)
    this.#details.delete(name)
    const key = imageKey(name)
    for (const { id, names } of this.#images.values()) {
      if (names.includes(key)) this.#images.set(id, { id, names: names.filter((n) => n !== key) })
    }
  }

  #keepNetwork(network: Network): void {
    const known = knownNetwork(network)
    if (known) this.#networks.set(known.id, known)
    else this.#foreignNetworks.set(network.Id, network.Name)
  }

  #judgeSupervisorNetwork(networks: readonly Network[]): void {
    const found = networks.find(({ Name }) => Name === SUPERVISOR_NETWORK)
    if (found === undefined) this.#supervisorNetwork = 'absent'
    else {
      const good = isSupervisorNetwork(found.IPAM?.Config ?? [], this.#options.subnet)
      this.#supervisorNetwork = good ? 'ready' : 'wrong'
    }
  }

  #clear(): void {
    this.#containers.clear()
    this.#foreign.clear()
    this.#networks.clear()
    this.#foreignNetworks.clear()
    this.#volumes.clear()
    this.#foreignVolumes.clear()
    this.#images.clear()
    this.#details.clear()
    this.#looks.clear()
    this.#answered.clear()
  }
}

function now(): { readonly wall: number; readonly steady: number } {
  return { wall: Date.now(), steady: performance.now() }
}

/** @returns Undefined where there is no such object. */
async function absent<T>(look: () => Promise<T>): Promise<T | undefined> {
  try {
    return await look()
  } catch (error) {
    if (isEngineError(error, 'ENGINE_NOT_FOUND')) return undefined
    throw error
  }
}
