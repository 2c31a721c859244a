import { isEngineError } from '../../../src/engine/error.ts'
import { clearHandover } from '../locks/handover.ts'
import { serviceKey } from '../plan/current.ts'
import type { AbortHandoverStep, BeginHandoverStep } from '../plan/steps.ts'
import {
  rememberStop,
  removeContainer,
  renameContainer,
  startContainer,
  stopContainer,
} from './containers.ts'
import { type Hands, StaleStep, unlessGone } from './hands.ts'
import { reasonOf } from './words.ts'

export async function beginHandover(
  step: BeginHandoverStep,
  appId: number,
  hands: Hands,
): Promise<void> {
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
  if (step.stop) {
    await rememberStop(serviceKey(appId, serviceName), containerId, hands)
    await stopContainer(containerId, hands)
  }
  await renameContainer(containerId, step.to, hands)
  hands.reasons.set(serviceKey(appId, serviceName), reasonOf(step.why))
  note(`service ${serviceName} of app ${appId} makes room: ${reasonOf(step.why)}`)
}

export async function abortHandover(
  step: AbortHandoverStep,
  appId: number,
  hands: Hands,
): Promise<void> {
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
  if (step.start) await memory.setHalt(serviceKey(appId, serviceName), undefined)
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
