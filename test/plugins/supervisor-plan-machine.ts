import assert from 'node:assert/strict'
import { imageKey } from '../../plugins/supervisor/compose/image-key.ts'
import { isOldName } from '../../plugins/supervisor/compose/names.ts'
import type {
  ContainerState,
  Current,
  CurrentContainer,
  CurrentImage,
  CurrentNetwork,
  CurrentVolume,
  Halt,
} from '../../plugins/supervisor/plan/current.ts'
import { serviceKey } from '../../plugins/supervisor/plan/current.ts'
import type { Desired, DesiredApp, DesiredService } from '../../plugins/supervisor/plan/desired.ts'
import type { PlanOptions } from '../../plugins/supervisor/plan/options.ts'
import { plan } from '../../plugins/supervisor/plan/plan.ts'
import type { Plan, Step, Wait } from '../../plugins/supervisor/plan/steps.ts'

export type { Desired, DesiredApp, DesiredService }

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] }
export type Box = Mutable<CurrentContainer>

export const OPTIONS: PlanOptions = {
  now: 1_000_000,
  bootTime: 0,
  keepVolumes: false,
  keepImages: false,
  replaceVolumes: false,
  trial: undefined,
  recreate: new Set(),
  clearVolumesOf: new Set(),
}

export function service(
  serviceName: string,
  changes: Partial<DesiredService> = {},
): DesiredService {
  return {
    serviceName,
    image: `registry.test/${serviceName}:1`,
    name: `${serviceName}_1_1_c1`,
    hash: 'h1',
    fields: {},
    running: true,
    strategy: 'download-then-kill',
    handoverTimeoutMs: 60_000,
    dependsOn: [],
    networks: ['1_default'],
    volumes: [],
    networkOf: undefined,
    usesSupervisorNetwork: false,
    requiresReboot: false,
    ...changes,
  }
}

export function app(services: DesiredService[], changes: Partial<DesiredApp> = {}): DesiredApp {
  return {
    appId: 1,
    commit: 'c1',
    releaseId: 1,
    rejected: undefined,
    services,
    networks: [{ shortName: 'default', name: '1_default', hash: 'n1' }],
    volumes: [],
    ...changes,
  }
}

/**
 * An engine in memory that does what a plan says, one step after the other, and refuses what the
 * real one would refuse: a name twice, the removal of what is in use or runs.
 */
export class Machine {
  boxes: Box[] = []
  networks: CurrentNetwork[] = []
  volumes: CurrentVolume[] = []
  images: Mutable<CurrentImage>[] = []
  supervisorNetwork: Current['supervisorNetwork'] = 'absent'
  taken = { containers: new Set<string>(), networks: new Set<string>(), volumes: new Set<string>() }
  failedPulls = new Map<string, { retryAt: number }>()
  downloads = new Set<string>()
  halted = new Map<string, Halt>()
  handoverFiles = new Set<string>()
  failedUpdates = new Map<string, string>()
  commits = new Map<number, string>()
  now = OPTIONS.now
  /** Every step that was done, in order. */
  readonly log: string[] = []
  /** What a container does once it was started; by its configuration. */
  behaviour = new Map<string, { state: ContainerState; health?: CurrentContainer['health'] }>()
  /** Called before each step is done. */
  before: (step: Step, appId: number) => void = () => undefined
  #count = 0

  current(): Current {
    return {
      containers: this.boxes,
      networks: this.networks,
      volumes: this.volumes,
      images: this.images.map((image) => ({
        ...image,
        inUse: image.inUse || this.boxes.some(({ imageId }) => imageId === image.id),
      })),
      taken: this.taken,
      supervisorNetwork: this.supervisorNetwork,
      downloads: this.downloads,
      failedPulls: this.failedPulls,
      halted: this.halted,
      handoverFiles: this.handoverFiles,
      failedUpdates: this.failedUpdates,
      commits: this.commits,
    }
  }

  plan(desired: Desired, options: Partial<PlanOptions> = {}): Plan {
    return plan(this.current(), desired, { ...OPTIONS, ...options, now: this.now })
  }

  /** Plans and does rounds until nothing is to be done; time passes while something is awaited. */
  settle(desired: Desired, options: Partial<PlanOptions> = {}, rounds = 100): Wait[] {
    for (let round = 0; round < rounds; round++) {
      const next = this.plan(desired, options)
      const waits = [next.shared, ...next.apps.values()].flatMap((one) => [...one.waits])
      if (this.doAll(next, desired) > 0) continue
      const until = waits.flatMap((wait) => wait.until ?? []).sort((a, b) => a - b)[0]
      if (until === undefined) return waits
      assert.ok(until > this.now, 'what is waited for is over, and nothing follows')
      this.now = until
    }
    assert.fail(`not settled after ${rounds} rounds: ${this.log.slice(-12).join(', ')}`)
  }

  /** Does the steps of one round; returns how many there were. */
  doAll({ shared, apps }: Plan, desired: Desired): number {
    let count = 0
    for (const [appId, { steps }] of [[0, shared] as const, ...apps]) {
      for (const step of steps) {
        this.before(step, appId)
        this.log.push(describe(step))
        this.#do(step, appId, desired)
        count++
      }
    }
    return count
  }

  box(serviceName: string): Box | undefined {
    return this.boxes.find(
      (box) => box.serviceName === serviceName && !isOldName(box.name, serviceName),
    )
  }

  /** A container of a service as it is now wanted. */
  add(wanted: DesiredService, changes: Partial<Box> = {}, appId = 1): Box {
    const id = `box${++this.#count}`
    const image = this.images.find(({ names }) => names.includes(imageKey(wanted.image)))
    const owner = wanted.networkOf === undefined ? undefined : this.box(wanted.networkOf)
    const box: Box = {
      id,
      name: wanted.name,
      appId,
      serviceName: wanted.serviceName,
      hash: wanted.hash,
      fields: wanted.fields,
      madeFrom: image?.id,
      networkOf: owner?.id,
      imageId: image?.id ?? 'sha256:gone',
      state: 'created',
      health: 'none',
      createdAt: this.now,
      startedAt: undefined,
      exitCode: undefined,
      error: '',
      networks: [...wanted.networks, ...(wanted.usesSupervisorNetwork ? ['supervisor0'] : [])],
      volumes: wanted.volumes,
      ...changes,
    }
    this.boxes.push(box)
    return box
  }

  pulled(reference: string): undefined {
    const name = imageKey(reference)
    if (this.images.some(({ names }) => names.includes(name))) return
    this.images.push({ id: `sha256:${name}`, names: [name], owned: [name], inUse: false })
  }

  start(box: Box): undefined {
    const { state = 'running', health = 'none' } = this.behaviour.get(box.hash ?? '') ?? {}
    box.state = state
    box.health = health
    box.startedAt = this.now
    box.exitCode = state === 'exited' ? 1 : undefined
  }

  #do(step: Step, appId: number, desired: Desired): undefined {
    const wanted = desired.apps.find((one) => one.appId === appId)
    switch (step.kind) {
      case 'pull':
        return this.pulled(step.image)
      case 'remove-image':
        return this.#removeImage(step.image)
      case 'create-network': {
        assert.ok(!this.networks.some(({ name }) => name === step.name), `${step.name} twice`)
        const hash = wanted?.networks.find(({ name }) => name === step.name)?.hash
        this.networks.push({ id: `net${++this.#count}`, name: step.name, appId, hash })
        return
      }
      case 'remove-network':
        assert.ok(!this.boxes.some(({ networks }) => networks.includes(step.name)), 'in use')
        this.networks = this.networks.filter(({ id }) => id !== step.id)
        return
      case 'create-volume': {
        const hash = wanted?.volumes.find(({ name }) => name === step.name)?.hash
        this.volumes.push({ name: step.name, appId, hash })
        return
      }
      case 'remove-volume':
        assert.ok(!this.boxes.some(({ volumes }) => volumes.includes(step.name)), 'in use')
        this.volumes = this.volumes.filter(({ name }) => name !== step.name)
        return
      case 'create-supervisor-network':
        assert.equal(this.supervisorNetwork, 'absent')
        this.supervisorNetwork = 'ready'
        return
      case 'remove-supervisor-network':
        assert.ok(!this.boxes.some(({ networks }) => networks.includes('supervisor0')), 'in use')
        this.supervisorNetwork = 'absent'
        return
      case 'create':
        return this.#create(step, appId, wanted)
      case 'start': {
        if (step.endsHalt) this.halted.delete(serviceKey(appId, step.serviceName))
        return this.start(this.#get(step.containerId))
      }
      case 'stop': {
        const box = this.#get(step.containerId)
        if (step.why.kind === 'not-running') {
          const key = serviceKey(appId, step.serviceName)
          this.halted.set(key, { by: 'target', hash: box.hash ?? '' })
        }
        return this.#stop(box)
      }
      case 'remove':
        assert.ok(!['running', 'restarting', 'paused'].includes(this.#get(step.containerId).state))
        return this.#remove(step.containerId)
      case 'rename':
        return this.#rename(step.containerId, step.to)
      case 'begin-handover':
        this.handoverFiles.delete(serviceKey(appId, step.serviceName))
        if (step.stop) this.#stop(this.#get(step.containerId))
        return this.#rename(step.containerId, step.to)
      case 'finish-handover':
        return this.#remove(step.containerId)
      case 'abort-handover': {
        const key = serviceKey(appId, step.serviceName)
        if (step.failedHash !== undefined) this.failedUpdates.set(key, step.failedHash)
        if (step.newId !== undefined) this.#remove(step.newId)
        const old = this.#get(step.oldId)
        if (step.start && old.state !== 'running') {
          old.state = 'running'
          old.startedAt = this.now
        }
        return this.#rename(step.oldId, step.to)
      }
      case 'note-commit':
        if (step.commit === undefined) this.commits.delete(appId)
        else this.commits.set(appId, step.commit)
        return
    }
  }

  #create(step: Extract<Step, { kind: 'create' }>, appId: number, wanted?: DesiredApp): undefined {
    const target = wanted?.services.find(({ serviceName }) => serviceName === step.serviceName)
    assert.ok(target, `${step.serviceName} is created and not wanted`)
    assert.ok(
      this.images.some(({ names }) => names.includes(imageKey(target.image))),
      'no image',
    )
    for (const network of target.networks) {
      assert.ok(
        this.networks.some(({ name }) => name === network),
        `no network ${network}`,
      )
    }
    for (const volume of target.volumes) {
      const there = this.volumes.some(({ name }) => name === volume)
      assert.ok(there || this.taken.volumes.has(volume), `no volume ${volume}`)
    }
    if (target.usesSupervisorNetwork) assert.equal(this.supervisorNetwork, 'ready')
    this.#claim(step.name)
    this.add(target, { networkOf: step.networkContainer }, appId)
  }

  #removeImage(name: string): undefined {
    const image = this.images.find(({ names }) => names.includes(name))
    assert.ok(image, `no image ${name}`)
    assert.ok(image.owned.includes(name), 'an image of a stranger')
    assert.ok(!this.boxes.some(({ imageId }) => imageId === image.id), 'in use')
    image.names = image.names.filter((one) => one !== name)
    image.owned = image.owned.filter((one) => one !== name)
    if (image.names.length === 0) this.images = this.images.filter((one) => one !== image)
  }

  #get(id: string): Box {
    const box = this.boxes.find((one) => one.id === id)
    assert.ok(box, `no container ${id}`)
    return box
  }

  #stop(box: Box): undefined {
    box.state = 'exited'
    box.exitCode = 137
  }

  #remove(id: string): undefined {
    this.#get(id)
    this.boxes = this.boxes.filter((box) => box.id !== id)
  }

  #rename(id: string, to: string): undefined {
    this.#claim(to)
    this.#get(id).name = to
  }

  #claim(name: string): void {
    const used = this.boxes.some((box) => box.name === name)
    assert.ok(!used && !this.taken.containers.has(name), `the name ${name} is in use`)
  }
}

/** `stop api`, `create-network 1_default`. */
export function describe(step: Step): string {
  const what = 'serviceName' in step ? step.serviceName : 'name' in step ? step.name : ''
  return `${step.kind} ${what || ('image' in step ? step.image : '')}`.trim()
}

/** The kinds of steps of one app, in a fixed order. */
export function stepsOf({ apps, shared }: Plan, appId = 1): string[] {
  const round = appId === 0 ? shared : apps.get(appId)
  return (round?.steps ?? []).map(describe).sort()
}

export function waitsOf({ apps }: Plan, appId = 1): string[] {
  return [...new Set((apps.get(appId)?.waits ?? []).map(({ kind }) => kind))].sort()
}
