import { isEngineError } from '../../../src/engine/error.ts'
import type { ImageDetails } from '../../../src/engine/images.ts'
import { messageOf } from '../../../src/errors.ts'
import { askFor } from '../compose/asked.ts'
import { containerSpec } from '../compose/container.ts'
import type { EngineHealthcheck, ImageFacts } from '../compose/context.ts'
import { networkingParts } from '../compose/networking.ts'
import type { KnownContainer } from '../engine-state/objects.ts'
import { serviceKey } from '../plan/current.ts'
import type { CreateStep, StartStep, Why } from '../plan/steps.ts'
import { type Hands, StaleStep, unlessGone, wanted } from './hands.ts'

/** A container has at most this long to stop, whatever it asked for. */
const STOP_MS = 15 * 60_000

export async function createContainer(
  step: CreateStep,
  appId: number,
  hands: Hands,
): Promise<void> {
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

export async function startService(step: StartStep, appId: number, hands: Hands): Promise<void> {
  const container = hands.state.container(step.containerId)
  if (container === undefined) throw new StaleStep(`${step.serviceName} is gone`)
  await startContainer(container, hands)
  if (step.endsHalt) {
    await hands.memory.setHalt(serviceKey(appId, step.serviceName), undefined)
  }
  hands.note(`service ${step.serviceName} of app ${appId} started`)
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

/**
 * Notes that it was us who stopped it for another container, so that it is started again when that
 * does not come: the daemon was killed, or the operation failed. The start of any ends the note.
 *
 * @param key As `serviceKey`.
 */
export async function rememberStop(
  key: string,
  containerId: string,
  { memory, state }: Hands,
): Promise<void> {
  if (memory.halts.has(key)) return
  const hash = state.container(containerId)?.hash ?? ''
  // A full disk is no reason to do nothing.
  await memory.setHalt(key, { by: 'target', hash }).catch(() => undefined)
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

export async function removeContainer(containerId: string, hands: Hands, why?: Why): Promise<void> {
  const { engine, state, memory, signal } = hands
  const options = { volumes: true, force: why?.kind === 'dead', signal }
  try {
    await unlessGone(engine.containers.remove(containerId, options))
  } catch (error) {
    // An engine that is away tells everything when it is back.
    await state.refresh(containerId).catch(() => undefined)
    const leaving = state.container(containerId)?.state === 'removing'
    if (!leaving || !isEngineError(error, 'ENGINE_CONFLICT')) throw error
    return
  }
  state.forget(containerId)
  await memory.setRestartPolicy(containerId, undefined)
}

export async function renameContainer(id: string, to: string, hands: Hands): Promise<void> {
  const { engine, state, signal } = hands
  await state.during(id, () => unlessGone(engine.containers.rename(id, to, { signal })))
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

function factsOf({ Id, Config }: ImageDetails): ImageFacts {
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
