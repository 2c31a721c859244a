import { serviceKey } from '../plan/current.ts'
import type { Step } from '../plan/steps.ts'
import {
  createContainer,
  rememberStop,
  removeContainer,
  renameContainer,
  startService,
  stopContainer,
} from './containers.ts'
import { abortHandover, beginHandover } from './handover-steps.ts'
import { type Hands, unlessGone } from './hands.ts'
import { removeImage } from './images.ts'
import {
  createNetwork,
  createSupervisorNetwork,
  createVolume,
  removeSupervisorNetwork,
} from './networks-volumes.ts'
import { reasonOf } from './words.ts'

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
      return await removeImage(step.image, hands)
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
      return await createSupervisorNetwork(hands)
    case 'remove-supervisor-network':
      return await removeSupervisorNetwork(hands)
    case 'create':
      return await createContainer(step, appId, hands)
    case 'start':
      return await startService(step, appId, hands)
    case 'stop': {
      const { serviceName, containerId, why } = step
      if (why.kind === 'not-running') {
        const hash = state.container(containerId)?.hash ?? ''
        await memory.setHalt(serviceKey(appId, serviceName), { by: 'target', hash })
      } else if (why.kind !== 'halted' && why.kind !== 'duplicate') {
        await rememberStop(serviceKey(appId, serviceName), containerId, hands)
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
