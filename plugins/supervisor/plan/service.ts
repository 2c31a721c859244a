import { oldName, withoutOld } from '../compose/names.ts'
import type { CurrentContainer } from './current.ts'
import { idleOwner, unmetDependency } from './dependencies.ts'
import type { DesiredService } from './desired.ts'
import { killsFirst } from './pulls.ts'
import type { RoundBuilder } from './round.ts'
import {
  type Cast,
  castFor,
  haltOf,
  isHeldBack,
  isUp,
  mayBeStarted,
  mismatch,
  type Scene,
  shallRun,
} from './scene.ts'
import type { Why } from './steps.ts'
import { judge } from './trial.ts'

/** What an app's images allow: {@link planService} of all its services gets the same. */
export interface Gate {
  /** All images are present for which the old release has to wait. */
  readonly imagesComplete: boolean
}

/** Plans one wanted service. Its image is asked for elsewhere. */
export function planService(
  scene: Scene,
  service: DesiredService,
  gate: Gate,
  round: RoundBuilder,
): undefined {
  const { serviceName } = service
  const cast = castFor(scene, serviceName)
  for (const container of cast.leaving) {
    round.wait('removing', `${container.name} is being removed`, serviceName)
  }
  for (const container of cast.extras) discard(container, { kind: 'duplicate' }, round)
  // While another container of it exists, nothing of it is begun.
  if (cast.extras.length > 0 || cast.leaving.length > 0) return
  const { main, old } = cast
  const heldBack = isHeldBack(scene, service)
  if (heldBack && old !== undefined) {
    bringBack(scene, service, old, main, service.hash, 'exited', round)
  } else if (heldBack && main !== undefined) {
    round.wait('failed-update', `${serviceName} is as it was before a failed update`, serviceName)
    runAsAsked(scene, service, main, round)
  } else if (main !== undefined && mismatch(scene, service, main) === undefined) {
    keep(scene, service, main, old, round)
  } else if (old !== undefined && mismatch(scene, service, old) === undefined) {
    bringBack(scene, service, old, main, undefined, 'target', round)
  } else if (main !== undefined) {
    replace(scene, service, main, old, gate, round)
  } else {
    create(scene, service, cast, round)
  }
}

/** A container that is not wanted: it is stopped first, in the time it was given. */
export function discard(container: CurrentContainer, why: Why, round: RoundBuilder): undefined {
  const { id: containerId, serviceName } = container
  if (container.state === 'removing') {
    round.wait('removing', `${container.name} is being removed`, serviceName)
  } else if (isUp(container)) round.step({ kind: 'stop', serviceName, containerId, why })
  else round.step({ kind: 'remove', serviceName, containerId, why })
}

/** The container of the service is the one that is wanted. */
function keep(
  scene: Scene,
  service: DesiredService,
  main: CurrentContainer,
  old: CurrentContainer | undefined,
  round: RoundBuilder,
): undefined {
  if (old !== undefined) return conclude(scene, service, main, old, round)
  if (main.name !== service.name) rename(scene, service, main, round)
  runAsAsked(scene, service, main, round)
}

/** Starts or stops it, as far as that is not the engine's affair. */
function runAsAsked(
  scene: Scene,
  service: DesiredService,
  main: CurrentContainer,
  round: RoundBuilder,
): undefined {
  const { serviceName } = service
  if (!shallRun(scene, service)) {
    if (!isUp(main)) return
    const why: Why = { kind: service.running ? 'halted' : 'not-running' }
    round.step({ kind: 'stop', serviceName, containerId: main.id, why })
  } else if (mayBeStarted(scene, service, main)) startWhenReady(scene, service, main, round)
}

function startWhenReady(
  scene: Scene,
  service: DesiredService,
  container: CurrentContainer,
  round: RoundBuilder,
): undefined {
  const { serviceName } = service
  if (service.requiresReboot && container.createdAt >= scene.options.bootTime) {
    return round.wait('reboot', `${serviceName} starts after the next reboot`, serviceName)
  }
  const unmet = unmetDependency(scene, service)
  if (unmet !== undefined) {
    return round.wait('dependency', `${serviceName} waits for ${unmet}`, serviceName)
  }
  const idle = idleOwner(scene, service)
  if (idle !== undefined) {
    const message = `${serviceName} waits for ${service.networkOf}, whose network it shares`
    return round.wait(idle, message, serviceName)
  }
  round.step({
    kind: 'start',
    serviceName,
    containerId: container.id,
    endsHalt: haltOf(scene, service) !== undefined,
  })
}

function rename(
  scene: Scene,
  { serviceName, name }: DesiredService,
  main: CurrentContainer,
  round: RoundBuilder,
): undefined {
  if (isTaken(scene, name)) {
    round.wait('name-taken', `the name ${name} is in use`, serviceName)
  } else {
    const { id: containerId, name: from } = main
    round.step({ kind: 'rename', serviceName, containerId, from, to: name })
  }
}

function isTaken({ current, names }: Scene, name: string): boolean {
  return names.has(name) || current.taken?.containers.has(name) === true
}

/** A hand-over or a trial goes on, or comes to its end. */
function conclude(
  scene: Scene,
  service: DesiredService,
  main: CurrentContainer,
  old: CurrentContainer,
  round: RoundBuilder,
): undefined {
  const { serviceName } = service
  const verdict = judge(scene, service, main, old)
  switch (verdict.kind) {
    case 'finish':
      return round.step({
        kind: 'finish-handover',
        serviceName,
        containerId: old.id,
        because: verdict.because,
      })
    case 'abort':
      return bringBack(scene, service, old, main, main.hash, verdict.because, round)
    case 'start':
      return startWhenReady(scene, service, main, round)
    case 'wait': {
      const kind = isUp(old) ? 'handover' : 'trial'
      return round.wait(kind, `${serviceName} has to prove itself`, serviceName, verdict.until)
    }
  }
}

function bringBack(
  scene: Scene,
  service: DesiredService,
  old: CurrentContainer,
  main: CurrentContainer | undefined,
  failedHash: string | undefined,
  because: 'unhealthy' | 'exited' | 'timeout' | 'target',
  round: RoundBuilder,
): undefined {
  round.step({
    kind: 'abort-handover',
    serviceName: service.serviceName,
    oldId: old.id,
    newId: main?.id,
    from: old.name,
    to: withoutOld(old.name),
    start: service.running && haltOf(scene, service)?.by !== 'user',
    failedHash,
    because,
  })
}

/** Another container is wanted. */
function replace(
  scene: Scene,
  service: DesiredService,
  main: CurrentContainer,
  old: CurrentContainer | undefined,
  gate: Gate,
  round: RoundBuilder,
): undefined {
  const why = mismatch(scene, service, main)
  if (why === undefined) return
  const { serviceName } = service
  if (!killsFirst(service) && !gate.imagesComplete) {
    // What is going on beside it goes on.
    if (old !== undefined) conclude(scene, service, main, old, round)
    return round.wait('image', `${serviceName} is replaced when all images are here`, serviceName)
  }
  // A container that never got as far as to be handed over to is just another attempt.
  if (old !== undefined || !makesRoom(scene, service, main, why)) {
    return discard(main, why, round)
  }
  const to = oldName(main.name)
  const unmet = unmetDependency(scene, service)
  if (unmet !== undefined) {
    return round.wait('dependency', `${serviceName} waits for ${unmet}`, serviceName)
  }
  round.step({
    kind: 'begin-handover',
    serviceName,
    containerId: main.id,
    from: main.name,
    to,
    stop: service.strategy !== 'hand-over' || !isUp(main),
    why,
  })
}

/**
 * Whether the old container is kept for a while: a hand-over, or an update on trial. Not when it
 * uses a network or volume that has to go, and not when it never ran. One that does not run now
 * may have been stopped for a trial whose begin was interrupted.
 */
function makesRoom(
  scene: Scene,
  service: DesiredService,
  main: CurrentContainer,
  why: Why,
): boolean {
  if (why.kind !== 'changed' || main.startedAt === undefined) return false
  if (!shallRun(scene, service)) return false
  // Its name with `old_` in front has to be known again.
  if (service.requiresReboot || !main.name.startsWith(`${service.serviceName}_`)) return false
  if (service.strategy === 'hand-over' && isUp(main)) return true
  return scene.options.trial !== undefined && !killsFirst(service)
}

function create(
  scene: Scene,
  service: DesiredService,
  { old }: Cast,
  round: RoundBuilder,
): undefined {
  const { serviceName, name } = service
  if (old !== undefined) {
    const why = mismatch(scene, service, old)
    // It was kept under another strategy, or uses what has to go.
    const useless = why !== undefined && (why.kind !== 'changed' || killsFirst(service))
    if (useless) return discard(old, why, round)
  }
  if (scene.images.stateOf(service.image).kind !== 'present') return
  const missing = missingObject(scene, service)
  if (missing !== undefined) return round.wait('order', missing, serviceName)
  if (service.usesSupervisorNetwork && scene.current.supervisorNetwork !== 'ready') {
    return round.wait('supervisor-network', `${serviceName} waits for its network`, serviceName)
  }
  const { networkOf } = service
  const owner = networkOf === undefined ? undefined : castFor(scene, networkOf).main
  if (networkOf !== undefined && owner === undefined) {
    return round.wait('dependency', `${serviceName} waits for ${networkOf}`, serviceName)
  }
  // Its time to prove itself begins now.
  const unmet = old === undefined ? undefined : unmetDependency(scene, service)
  if (unmet !== undefined) {
    return round.wait('dependency', `${serviceName} waits for ${unmet}`, serviceName)
  }
  if (isTaken(scene, name)) {
    return round.wait('name-taken', `the name ${name} is in use`, serviceName)
  }
  round.step({
    kind: 'create',
    serviceName,
    name,
    hash: service.hash,
    networkContainer: owner?.id,
    handover: old !== undefined,
  })
}

function missingObject({ objects }: Scene, service: DesiredService): string | undefined {
  const network = service.networks.find((name) => !objects.readyNetworks.has(name))
  if (network !== undefined) return `network ${network} is not there yet`
  const volume = service.volumes.find((name) => !objects.readyVolumes.has(name))
  return volume === undefined ? undefined : `volume ${volume} is not there yet`
}
