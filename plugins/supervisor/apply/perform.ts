import type { Engine } from '../../../src/engine/engine.ts'
import { isEngineError } from '../../../src/engine/error.ts'
import type { ImageDetails } from '../../../src/engine/images.ts'
import type { NetworkBody } from '../../../src/engine/networks.ts'
import type { VolumeBody } from '../../../src/engine/volumes.ts'
import { messageOf } from '../../../src/errors.ts'
import { askFor } from '../compose/asked.ts'
import { containerSpec } from '../compose/container.ts'
import type { ComposeContext, EngineHealthcheck, ImageFacts } from '../compose/context.ts'
import { networkingParts } from '../compose/networking.ts'
import { networkSpecs, volumeSpecs } from '../compose/objects.ts'
import {
  SUPERVISOR_NETWORK,
  type SupervisorSubnet,
  supervisorNetworkBody,
} from '../compose/supervisor-network.ts'
import type { EngineState } from '../engine-state/engine-state.ts'
import { type KnownContainer, knownNetwork, knownVolume } from '../engine-state/objects.ts'
import type { LockFolders } from '../locks/folders.ts'
import { clearHandover } from '../locks/handover.ts'
import { serviceKey } from '../plan/current.ts'
import type {
  AbortHandoverStep,
  BeginHandoverStep,
  CreateStep,
  StartStep,
  Step,
  Why,
} from '../plan/steps.ts'
import type { Memory } from '../store/memory.ts'
import type { TargetApp, TargetService } from '../target/model.ts'
import { reasonOf } from './words.ts'

/** What steps are done with. */
export interface Hands {
  readonly engine: Engine
  readonly state: EngineState
  readonly memory: Memory
  readonly folders: LockFolders
  readonly context: () => ComposeContext
  readonly subnet: SupervisorSubnet | undefined
  /** The app as it is wanted now. */
  readonly appOf: (appId: number) => TargetApp | undefined
  /** Begins, and does not wait. */
  readonly pull: (image: string) => void
  readonly handoverBegins: (appId: number, serviceName: string) => void
  /** Something is done with a service just now; undefined: no more. */
  readonly doing: (containerId: string, status: 'Starting' | 'Stopping' | undefined) => void
  /** By `serviceKey`: why the container of a service went, until there is a new one. */
  readonly reasons: Map<string, string>
  readonly note: (message: string, level?: 'info' | 'warn') => void
  readonly signal: AbortSignal
}

/** A container has at most this long to stop, whatever it asked for. */
const STOP_MS = 15 * 60_000

/** The plan was made for what is not wanted any more. */
export class StaleStep extends Error {
  override readonly name = 'StaleStep'
}

/**
 * Does one step. All of them can be done again after a crash in between: names make creation
 * idempotent, and what is gone already is gone.
 *
 * @throws {EngineError} What the engine refused.
 * @throws {StaleStep} When another plan is needed.
 */
export async function perform(step: Step, appId: number, hands: Hands): Promise<void> {
  const { engine, state, memory, note, signal } = hands
  switch (step.kind) {
    case 'pull':
      return hands.pull(step.image)
    case 'remove-image':
      await unlessGone(engine.images.remove(step.image, { signal }))
      await memory.disownImage(step.image)
      await state.refreshImage(step.image, signal)
      return note(`image ${step.image} removed`)
    case 'create-network':
      return await createNetwork(step.name, appId, hands)
    case 'remove-network':
      await unlessGone(engine.networks.remove(step.id, { signal }))
      state.removeNetwork(step.id)
      return note(`network ${step.name} removed`)
    case 'create-volume':
      return await createVolume(step.name, appId, hands)
    case 'remove-volume':
      await unlessGone(engine.volumes.remove(step.name, { signal }))
      state.removeVolume(step.name)
      return note(`volume ${step.name} removed`)
    case 'create-supervisor-network':
      await unlessThere(engine.networks.create(toBody(hands.subnet), { signal }))
      return await state.refreshSupervisorNetwork(signal)
    case 'remove-supervisor-network':
      await unlessGone(engine.networks.remove(SUPERVISOR_NETWORK, { signal }))
      return await state.refreshSupervisorNetwork(signal)
    case 'create':
      return await create(step, appId, hands)
    case 'start':
      return await start(step, appId, hands)
    case 'stop': {
      const { serviceName, containerId, why } = step
      if (why.kind === 'not-running') {
        const hash = state.container(containerId)?.hash ?? ''
        await memory.setHalt(serviceKey(appId, serviceName), { by: 'target', hash })
      }
      await stopContainer(containerId, hands)
      return note(`service ${serviceName} of app ${appId} stopped: ${reasonOf(why)}`)
    }
    case 'remove': {
      const { serviceName, containerId, why } = step
      await removeContainer(containerId, hands, why)
      if (why.kind !== 'gone' && why.kind !== 'duplicate') {
        hands.reasons.set(serviceKey(appId, serviceName), reasonOf(why))
      }
      return note(`service ${serviceName} of app ${appId} removed: ${reasonOf(why)}`)
    }
    case 'rename':
      await renameContainer(step.containerId, step.to, hands)
      return note(`service ${step.serviceName} of app ${appId} is now ${step.to}`)
    case 'begin-handover':
      return await beginHandover(step, appId, hands)
    case 'finish-handover':
      await stopContainer(step.containerId, hands)
      await removeContainer(step.containerId, hands)
      return note(
        `service ${step.serviceName} of app ${appId} handed over: ${step.because}`,
        step.because === 'timeout' ? 'warn' : 'info',
      )
    case 'abort-handover':
      return await abortHandover(step, appId, hands)
    case 'note-commit':
      await memory.setCommit(appId, step.commit)
      return note(
        step.commit === undefined
          ? `app ${appId} is gone`
          : `app ${appId} is at commit ${step.commit}`,
      )
  }
}

/** Also for a start by the user. Networks that a crash kept it from are connected first. */
export async function startContainer(container: KnownContainer, hands: Hands): Promise<void> {
  const { engine, state, signal } = hands
  hands.doing(container.id, 'Starting')
  try {
    await state.during(container.id, async () => {
      if (container.state === 'created') await connectMissing(container, hands)
      await engine.containers.start(container.id, { signal })
    })
  } finally {
    hands.doing(container.id, undefined)
  }
}

/** Resolves when it has stopped, or is gone. */
export async function stopContainer(containerId: string, hands: Hands): Promise<void> {
  const { engine, state, signal } = hands
  hands.doing(containerId, 'Stopping')
  try {
    await state.during(containerId, () =>
      unlessGone(engine.containers.stop(containerId, { deadlineMs: STOP_MS, signal })),
    )
  } finally {
    hands.doing(containerId, undefined)
  }
}

async function removeContainer(containerId: string, hands: Hands, why?: Why): Promise<void> {
  const { engine, state, memory, signal } = hands
  const options = { volumes: true, force: why?.kind === 'dead', signal }
  try {
    await unlessGone(engine.containers.remove(containerId, options))
  } catch (error) {
    await lookAgain(containerId, state)
    const leaving = state.container(containerId)?.state === 'removing'
    if (!leaving || !isEngineError(error, 'ENGINE_CONFLICT')) throw error
    return
  }
  state.forget(containerId)
  await memory.setRestartPolicy(containerId, undefined)
}

async function createNetwork(name: string, appId: number, hands: Hands): Promise<void> {
  const { engine, state, note, signal } = hands
  const spec = specOf(networkSpecs, name, appId, hands)
  try {
    const id = await engine.networks.create(spec.create as unknown as NetworkBody, { signal })
    state.addNetwork({ id, name, appId, hash: spec.hash })
  } catch (error) {
    if (!isEngineError(error, 'ENGINE_CONFLICT')) throw error
    const found = await engine.networks.list({ names: [name], signal })
    const ours = found.filter(({ Name }) => Name === name).map(knownNetwork)
    const known = ours.find((one) => one?.hash === spec.hash)
    if (known === undefined) throw error
    return state.addNetwork(known)
  }
  note(`network ${name} created`)
}

async function createVolume(name: string, appId: number, hands: Hands): Promise<void> {
  const { engine, state, note, signal } = hands
  const spec = specOf(volumeSpecs, name, appId, hands)
  const made = await engine.volumes.create(spec.create as unknown as VolumeBody, { signal })
  // Docker gives the one that is there, whoever made it.
  const known = knownVolume({ ...made, Name: made.Name || name })
  if (known === undefined) throw new StaleStep(`volume ${name} is not ours`)
  state.addVolume(known)
  note(`volume ${name} created`)
}

async function create(step: CreateStep, appId: number, hands: Hands): Promise<void> {
  const { engine, state, folders, note, signal } = hands
  const { app, service } = wanted(appId, step.serviceName, hands)
  const imageId = state.imageId(service.image)
  if (imageId === undefined) throw new StaleStep(`image ${service.image} is gone`)
  const image = factsOf(await state.imageDetails(imageId, signal))
  // The engine would make it, as root's alone.
  await folders.make(appId, service.serviceName)
  const { networkContainer } = step
  const facts = { image, ...(networkContainer === undefined ? {} : { networkContainer }) }
  const spec = containerSpec(service, app, hands.context(), facts)
  if (spec.hash !== step.hash) throw new StaleStep(`${step.serviceName} is wanted otherwise`)
  for (const warning of spec.warnings) note(`service ${step.serviceName}: ${warning}`, 'warn')
  const body = spec.create as { readonly Image: string }
  let id: string
  try {
    id = (await engine.containers.create(step.name, body, { signal })).Id
  } catch (error) {
    if (!isEngineError(error, 'ENGINE_CONFLICT')) throw error
    // An earlier attempt whose answer did not come.
    const { Id } = await engine.containers.inspect(step.name, { signal })
    const found = await state.refresh(Id, signal)
    if (found?.hash !== step.hash || found.state !== 'created') throw error
    return
  }
  await state.refresh(id, signal)
  const key = serviceKey(appId, step.serviceName)
  const reason = hands.reasons.get(key)
  hands.reasons.delete(key)
  note(
    reason === undefined
      ? `service ${step.serviceName} of app ${appId} created as ${step.name}`
      : `service ${step.serviceName} of app ${appId} replaced: ${reason}`,
  )
}

async function start(step: StartStep, appId: number, hands: Hands): Promise<void> {
  const container = hands.state.container(step.containerId)
  if (container === undefined) throw new StaleStep(`${step.serviceName} is gone`)
  await startContainer(container, hands)
  if (step.endsHalt) {
    await hands.memory.setHalt(serviceKey(appId, step.serviceName), undefined)
  }
  hands.note(`service ${step.serviceName} of app ${appId} started`)
}

/** An engine of API 1.41 takes one network at creation; the others come before the first start. */
async function connectMissing(container: KnownContainer, hands: Hands): Promise<void> {
  const { engine, signal } = hands
  const app = hands.appOf(container.appId)
  const service = app?.services.find((one) => one.serviceName === container.serviceName)
  if (app === undefined || service === undefined) return
  const { asked } = askFor(service, app, hands.context())
  const { connect } = networkingParts(asked, container.networkOf)
  for (const { name, endpoint } of connect) {
    if (container.networks.includes(name)) continue
    try {
      await engine.networks.connect(name, container.id, endpoint, { signal })
    } catch (error) {
      const there = /already (?:exists|connected)|is already/i.test(messageOf(error))
      if (!isEngineError(error) || !there) throw error
    }
  }
}

async function renameContainer(id: string, to: string, hands: Hands): Promise<void> {
  const { engine, state, signal } = hands
  await state.during(id, () => unlessGone(engine.containers.rename(id, to, { signal })))
}

async function beginHandover(step: BeginHandoverStep, appId: number, hands: Hands): Promise<void> {
  const { state, memory, folders, note } = hands
  const { containerId, serviceName } = step
  await folders.make(appId, serviceName)
  await clearHandover(folders, appId, serviceName)
  hands.handoverBegins(appId, serviceName)
  const policy = state.container(containerId)?.restartPolicy
  if (policy !== undefined && policy !== '' && policy !== 'no') {
    await memory.setRestartPolicy(containerId, policy)
  }
  await setPolicy(containerId, 'no', hands)
  if (step.stop) await stopContainer(containerId, hands)
  await renameContainer(containerId, step.to, hands)
  hands.reasons.set(serviceKey(appId, serviceName), reasonOf(step.why))
  note(`service ${serviceName} of app ${appId} makes room: ${reasonOf(step.why)}`)
}

async function abortHandover(step: AbortHandoverStep, appId: number, hands: Hands): Promise<void> {
  const { state, memory, note } = hands
  const { serviceName, oldId, newId, failedHash } = step
  if (failedHash !== undefined) {
    await memory.setFailedUpdate(serviceKey(appId, serviceName), failedHash)
  }
  if (newId !== undefined) {
    await stopContainer(newId, hands)
    await removeContainer(newId, hands)
  }
  const policy = memory.restartPolicies.get(oldId)
  if (policy !== undefined) await setPolicy(oldId, policy, hands)
  const old = state.container(oldId)
  if (old === undefined) throw new StaleStep(`the old container of ${serviceName} is gone`)
  if (step.start && old.state !== 'running') await startContainer(old, hands)
  await renameContainer(oldId, step.to, hands)
  await memory.setRestartPolicy(oldId, undefined)
  const back = failedHash === undefined ? 'info' : 'warn'
  note(`service ${serviceName} of app ${appId} is back as it was: ${step.because}`, back)
}

/** Podman 4 cannot change it, and does without (spec §23.4). */
async function setPolicy(id: string, name: string, { engine, signal }: Hands): Promise<void> {
  try {
    const RestartPolicy = { Name: name, MaximumRetryCount: 0 }
    await unlessGone(engine.containers.update(id, { RestartPolicy }, { signal }))
  } catch (error) {
    if (!isEngineError(error, 'ENGINE_UNSUPPORTED')) throw error
  }
}

function wanted(
  appId: number,
  serviceName: string,
  { appOf }: Hands,
): { readonly app: TargetApp; readonly service: TargetService } {
  const app = appOf(appId)
  const service = app?.services.find((one) => one.serviceName === serviceName)
  if (app && service) return { app, service }
  throw new StaleStep(`${serviceName} is not wanted any more`)
}

function specOf<Spec extends { readonly name: string }>(
  specs: (app: TargetApp) => Spec[],
  name: string,
  appId: number,
  { appOf }: Hands,
): Spec {
  const app = appOf(appId)
  const spec = app && specs(app).find((one) => one.name === name)
  if (spec) return spec
  throw new StaleStep(`${name} is not wanted any more`)
}

function toBody(subnet: SupervisorSubnet | undefined): NetworkBody {
  return supervisorNetworkBody(subnet) as unknown as NetworkBody
}

export function factsOf({ Id, Config }: ImageDetails): ImageFacts {
  const config = Config ?? undefined
  return {
    id: Id,
    env: config?.Env ?? [],
    cmd: wordsOf(config?.Cmd),
    entrypoint: wordsOf(config?.Entrypoint),
    labels: config?.Labels ?? {},
    stopSignal: config?.StopSignal || undefined,
    healthcheck: (config?.Healthcheck as EngineHealthcheck | null | undefined) ?? undefined,
  }
}

/** An old engine has one text for a shell. */
function wordsOf(words: readonly string[] | string | null | undefined): readonly string[] {
  if (words === null || words === undefined) return []
  return typeof words === 'string' ? ['/bin/sh', '-c', words] : words
}

/** After a failure too: it may have been done all the same. */
async function lookAgain(id: string, state: EngineState): Promise<void> {
  // An engine that is away tells everything when it is back.
  await state.refresh(id).catch(() => undefined)
}

async function unlessGone(work: Promise<unknown>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (!isEngineError(error, 'ENGINE_NOT_FOUND')) throw error
  }
}

async function unlessThere(work: Promise<unknown>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (!isEngineError(error, 'ENGINE_CONFLICT')) throw error
  }
}
