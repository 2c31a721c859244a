import type { Engine } from '../../../src/engine/engine.ts'
import { isEngineError } from '../../../src/engine/error.ts'
import { type EngineEvent, followEvents } from '../../../src/engine/events.ts'
import type { ImageDetails } from '../../../src/engine/images.ts'
import { messageOf } from '../../../src/errors.ts'
import { SUPERVISOR_NETWORK, type SupervisorSubnet } from '../compose/supervisor-network.ts'
import type { CurrentNetwork, CurrentVolume } from '../plan/current.ts'
import { ContainerLooks, moment } from './container-looks.ts'
import { type EngineObjects, Inventory } from './inventory.ts'
import { type KnownContainer, ownerOf } from './objects.ts'

export interface EngineStateOptions {
  readonly engine: Engine
  readonly subnet?: SupervisorSubnet | undefined
  /** Something is not as it was. */
  readonly onChange: () => void
  /** The engine came or went. */
  readonly onConnection?: (connected: boolean, reason: string) => void
}

/** What changes nothing that is kept here; an engine says much (`exec_start`, `top`, `attach`). */
const CONTAINER_ACTIONS =
  /^(?:create|start|restart|die|stop|pause|unpause|rename|update|oom|health_status|destroy|connect)/

/** Until the lists are asked for again, when one of them failed. */
const RELOAD_MS = 1000

/**
 * The engine's objects in memory (spec §23.1): one list of each kind when the engine is there, then
 * its event stream, and a look at what changed. No call is made while nothing happens.
 */
export class EngineState {
  readonly #options: EngineStateOptions
  readonly #inventory: Inventory
  readonly #looks: ContainerLooks
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
  constructor(options: EngineStateOptions) {
    this.#options = options
    this.#inventory = new Inventory(options.subnet)
    this.#looks = new ContainerLooks({
      inspect: (id, signal) => {
        return absent(() => options.engine.containers.inspect(id, { signal }))
      },
      epoch: () => this.#epoch,
      onFound: (id, details) => {
        if (details === undefined) return this.forget(id)
        this.#inventory.keepContainer(details)
        options.onChange()
      },
      onFailure: (error, epoch) => this.#mistrust(error, epoch),
    })
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
    return this.#inventory.containers.get(id)
  }

  containers(): IterableIterator<KnownContainer> {
    return this.#inventory.containers.values()
  }

  containersOf(appId: number): KnownContainer[] {
    return [...this.containers()].filter((one) => one.appId === appId)
  }

  /** The engine's id of what a reference names now. */
  imageId(reference: string): string | undefined {
    return this.#inventory.imageId(reference)
  }

  /** Names of volumes that any container mounts. */
  mountedVolumes(): Set<string> {
    return this.#inventory.mountedVolumes()
  }

  volumes(): IterableIterator<CurrentVolume> {
    return this.#inventory.volumes.values()
  }

  /** @param owned References (as `imageKey`) that were pulled by us. */
  objects(owned: ReadonlySet<string>): EngineObjects {
    return this.#inventory.objects(owned)
  }

  /** What the engine says of an image; asked once for each id. */
  async imageDetails(id: string, signal?: AbortSignal): Promise<ImageDetails> {
    const known = this.#inventory.imageDetails(id)
    if (known) return known
    const details = await this.#options.engine.images.inspect(id, { signal })
    this.#inventory.keepImageDetails(id, details)
    return details
  }

  /*
   * To be told of what was done, so that the next plan knows it before the events come.
   */

  /** Looks at a container again; one that is gone is forgotten. */
  async refresh(id: string, signal?: AbortSignal): Promise<KnownContainer | undefined> {
    await this.#looks.now(id, signal)
    return this.container(id)
  }

  /** Does something with a container: see {@link ContainerLooks.during}. */
  during<T>(id: string, work: () => Promise<T>): Promise<T> {
    return this.#looks.during(id, work)
  }

  forget(containerId: string): void {
    this.#looks.forget(containerId)
    if (this.#inventory.loseContainer(containerId)) this.#options.onChange()
  }

  addNetwork(network: CurrentNetwork): void {
    this.#inventory.networks.set(network.id, network)
    this.#options.onChange()
  }

  removeNetwork(id: string): void {
    if (this.#inventory.networks.delete(id)) this.#options.onChange()
  }

  addVolume(volume: CurrentVolume): void {
    this.#inventory.volumes.set(volume.name, volume)
    this.#options.onChange()
  }

  removeVolume(name: string): void {
    if (this.#inventory.volumes.delete(name)) this.#options.onChange()
  }

  /** Looks at an image again, by name or id. */
  async refreshImage(name: string, signal?: AbortSignal): Promise<void> {
    await this.#lookAtImage(name, this.#epoch, signal)
  }

  async refreshSupervisorNetwork(signal?: AbortSignal): Promise<void> {
    const { networks } = this.#options.engine
    this.#inventory.judgeSupervisorNetwork(
      await networks.list({ names: [SUPERVISOR_NETWORK], signal }),
    )
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
          const at = moment()
          const details = await absent(() => containers.inspect(Id, { signal }))
          return details && { at, details }
        }),
      )
      if (epoch !== this.#epoch) return
      const found = looks.filter((look) => look !== undefined)
      this.#inventory.replace({
        containers: boxes,
        details: found.map(({ details }) => details),
        networks: nets,
        volumes: vols,
        images: imgs,
      })
      this.#looks.restart(found.map(({ at, details }) => [details.Id, at] as const))
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
          return this.#takeContainer(event)
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

  #takeContainer({ action, id, attributes, timeMs }: EngineEvent): void {
    if (!CONTAINER_ACTIONS.test(action)) return
    if (action === 'destroy') {
      this.forget(id)
      return
    }
    const foreign = ownerOf(attributes) === undefined && this.container(id) === undefined
    if (foreign && action !== 'create' && action !== 'rename') return
    this.#looks.after(id, timeMs, this.#signal)
  }

  async #takeNetwork(
    { action, id, attributes, timeMs }: EngineEvent,
    epoch: number,
  ): Promise<void> {
    if (action === 'connect' || action === 'disconnect') {
      const container = attributes.container ?? ''
      if (this.container(container)) this.#looks.after(container, timeMs, this.#signal)
      return
    }
    if (action === 'destroy') {
      this.#inventory.loseNetwork(id, attributes.name)
      return this.#options.onChange()
    }
    if (action !== 'create' || this.#inventory.networks.has(id)) return
    const found = await absent(() => this.#options.engine.networks.inspect(id))
    if (found === undefined || epoch !== this.#epoch) return
    this.#inventory.keepNetwork(found)
    this.#options.onChange()
  }

  async #takeVolume({ action, id }: EngineEvent, epoch: number): Promise<void> {
    if (action === 'destroy') {
      this.#inventory.loseVolume(id)
      return this.#options.onChange()
    }
    if (action !== 'create' || this.#inventory.hasVolume(id)) return
    const found = await absent(() => this.#options.engine.volumes.inspect(id))
    if (found === undefined || epoch !== this.#epoch) return
    this.#inventory.keepVolume(found)
    this.#options.onChange()
  }

  async #takeImage({ action, id }: EngineEvent, epoch: number): Promise<void> {
    if (action === 'delete') {
      this.#inventory.loseImage(id)
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
    if (found === undefined) this.#inventory.loseImage(name)
    else this.#inventory.keepImage(found)
    this.#options.onChange()
  }
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
