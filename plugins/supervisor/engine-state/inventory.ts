import type { ContainerDetails, ContainerSummary } from '../../../src/engine/containers.ts'
import type { ImageDetails, ImageSummary } from '../../../src/engine/images.ts'
import type { Network } from '../../../src/engine/networks.ts'
import type { Volume } from '../../../src/engine/volumes.ts'
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

/** The part of {@link Current} that the engine knows. */
export type EngineObjects = Pick<
  Current,
  'containers' | 'networks' | 'volumes' | 'images' | 'supervisorNetwork'
> & { readonly taken: NonNullable<Current['taken']> }

/** All that an engine lists. */
export interface EngineLists {
  readonly containers: readonly ContainerSummary[]
  /** Of ours, in full. */
  readonly details: readonly ContainerDetails[]
  readonly networks: readonly Network[]
  readonly volumes: readonly Volume[]
  readonly images: readonly ImageSummary[]
}

/**
 * What is kept of the engine's objects. What belongs to strangers is kept only as far as it takes
 * names or uses images and volumes.
 */
export class Inventory {
  readonly containers = new Map<string, KnownContainer>()
  readonly networks = new Map<string, CurrentNetwork>()
  readonly volumes = new Map<string, CurrentVolume>()
  readonly #foreign = new Map<string, ForeignContainer>()
  readonly #foreignNetworks = new Map<string, string>()
  readonly #foreignVolumes = new Set<string>()
  readonly #images = new Map<string, KnownImage>()
  readonly #details = new Map<string, ImageDetails>()
  readonly #subnet: SupervisorSubnet | undefined
  #supervisorNetwork: Current['supervisorNetwork'] = 'absent'

  constructor(subnet: SupervisorSubnet | undefined) {
    this.#subnet = subnet
  }

  /** @param owned References (as `imageKey`) that were pulled by us. */
  objects(owned: ReadonlySet<string>): EngineObjects {
    const used = new Set<string>()
    for (const { imageId } of this.containers.values()) used.add(imageId)
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
      containers: [...this.containers.values()].map((one) => {
        const lostNetwork = this.#lostNetwork(one)
        return lostNetwork === undefined ? one : { ...one, lostNetwork }
      }),
      networks: [...this.networks.values()],
      volumes: [...this.volumes.values()],
      images,
      supervisorNetwork: this.#supervisorNetwork,
      taken: {
        containers: new Set([...this.#foreign.values()].flatMap(({ names }) => names)),
        networks: new Set(this.#foreignNetworks.values()),
        volumes: this.#foreignVolumes,
      },
    }
  }

  /** Forgets everything and keeps what was listed. */
  replace({ containers, details, networks, volumes, images }: EngineLists): void {
    this.containers.clear()
    this.#foreign.clear()
    this.networks.clear()
    this.#foreignNetworks.clear()
    this.volumes.clear()
    this.#foreignVolumes.clear()
    this.#images.clear()
    this.#details.clear()
    for (const one of details) {
      const known = knownContainer(one)
      if (known) this.containers.set(known.id, known)
    }
    for (const one of containers) {
      if (ownerOf(one.Labels) === undefined) this.#foreign.set(one.Id, foreignContainer(one))
    }
    for (const network of networks) this.#keepNetwork(network)
    this.judgeSupervisorNetwork(networks)
    for (const volume of volumes) this.keepVolume(volume)
    for (const image of images) this.#images.set(image.Id, knownImage(image))
  }

  /** Names of volumes that any container mounts. */
  mountedVolumes(): Set<string> {
    const all = [...this.containers.values(), ...this.#foreign.values()]
    return new Set(all.flatMap(({ volumes }) => volumes))
  }

  keepContainer(details: ContainerDetails): void {
    const known = knownContainer(details)
    if (known) this.containers.set(known.id, known)
    else {
      const { Id, Name, Image, Mounts } = details
      this.#foreign.set(Id, foreignContainer({ Id, Names: [Name], ImageID: Image, Mounts }))
    }
  }

  /** @returns Whether it was known: a stranger's may have had a name or an image that is wanted. */
  loseContainer(id: string): boolean {
    return this.containers.delete(id) || this.#foreign.delete(id)
  }

  keepNetwork(network: Network): void {
    this.#keepNetwork(network)
    if (network.Name === SUPERVISOR_NETWORK) this.judgeSupervisorNetwork([network])
  }

  /** @param name As the engine says it; what is known of the id counts first. */
  loseNetwork(id: string, name: string | undefined): void {
    const known = this.networks.get(id)?.name ?? this.#foreignNetworks.get(id)
    this.networks.delete(id)
    this.#foreignNetworks.delete(id)
    if (known === SUPERVISOR_NETWORK || name === SUPERVISOR_NETWORK) {
      this.#supervisorNetwork = 'absent'
    }
  }

  judgeSupervisorNetwork(networks: readonly Network[]): void {
    const found = networks.find(({ Name }) => Name === SUPERVISOR_NETWORK)
    if (found === undefined) this.#supervisorNetwork = 'absent'
    else {
      const good = isSupervisorNetwork(found.IPAM?.Config ?? [], this.#subnet)
      this.#supervisorNetwork = good ? 'ready' : 'wrong'
    }
  }

  hasVolume(name: string): boolean {
    return this.volumes.has(name) || this.#foreignVolumes.has(name)
  }

  keepVolume(volume: Volume): void {
    const known = knownVolume(volume)
    if (known) this.volumes.set(known.name, known)
    else this.#foreignVolumes.add(volume.Name)
  }

  loseVolume(name: string): void {
    this.volumes.delete(name)
    this.#foreignVolumes.delete(name)
  }

  /** The engine's id of what a reference names now. */
  imageId(reference: string): string | undefined {
    const key = imageKey(reference)
    for (const { id, names } of this.#images.values()) if (names.includes(key)) return id
    return undefined
  }

  /** What the engine said of an image. */
  imageDetails(id: string): ImageDetails | undefined {
    return this.#details.get(id)
  }

  keepImageDetails(id: string, details: ImageDetails): void {
    this.#details.set(id, details)
  }

  keepImage(details: ImageDetails): void {
    const image = knownImage(details)
    // A name that moved is no longer another one's.
    for (const [id, other] of this.#images) {
      if (id === image.id || !other.names.some((one) => image.names.includes(one))) continue
      this.#images.set(id, { id, names: other.names.filter((one) => !image.names.includes(one)) })
    }
    this.#images.set(image.id, image)
    this.#details.set(image.id, details)
  }

  /** @param name Or id. */
  loseImage(name: string): void {
    this.#images.delete(name)
    this.#details.delete(name)
    const key = imageKey(name)
    for (const { id, names } of this.#images.values()) {
      if (names.includes(key)) this.#images.set(id, { id, names: names.filter((n) => n !== key) })
    }
  }

  #lostNetwork({ state, networkIds }: KnownContainer): string | undefined {
    if (state !== 'exited') return undefined
    const isKnown = (id: string) => this.networks.has(id) || this.#foreignNetworks.has(id)
    const lost = Object.entries(networkIds).filter(([, id]) => !isKnown(id))
    if (lost.length === 0) return undefined
    const ours = [...this.networks.values()].map(({ name }) => name)
    const names = new Set([...ours, ...this.#foreignNetworks.values()])
    return lost.find(([name]) => names.has(name))?.[0]
  }

  #keepNetwork(network: Network): void {
    const known = knownNetwork(network)
    if (known) this.networks.set(known.id, known)
    else this.#foreignNetworks.set(network.Id, network.Name)
  }
}
