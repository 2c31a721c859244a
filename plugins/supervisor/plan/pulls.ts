import type { DesiredService } from './desired.ts'
import type { RoundBuilder } from './round.ts'
import { castFor, isHeldBack, mismatch, type Scene } from './scene.ts'

/** Whether a service's old container goes before its image is pulled (spec §15). */
export function killsFirst({ strategy }: DesiredService): boolean {
  return strategy === 'kill-then-download' || strategy === 'delete-then-download'
}

/** Whether a container has to be created for the service. */
export function needsContainer(scene: Scene, service: DesiredService): boolean {
  const { main, old } = castFor(scene, service.serviceName)
  // What was rolled back, or goes back to its old container, needs no image.
  if (isHeldBack(scene, service)) return false
  if (main !== undefined && mismatch(scene, service, main) === undefined) return false
  return old === undefined || mismatch(scene, service, old) !== undefined
}

/**
 * Asks for every image that may be pulled now.
 *
 * @returns Whether all images are present for which an old release has to wait: all of the app's
 *   but those of services that are killed first.
 */
export function planPulls(scene: Scene, round: RoundBuilder): boolean {
  let complete = true
  const asked = new Set<string>()
  for (const service of scene.app.services) {
    if (!needsContainer(scene, service)) continue
    const first = killsFirst(service)
    const { main, old, extras } = castFor(scene, service.serviceName)
    const occupied = main !== undefined || old !== undefined || extras.length > 0
    if (first && occupied) continue
    if (scene.images.stateOf(service.image).kind === 'present') continue
    if (!first) complete = false
    // The space of the old image comes first.
    if (service.strategy === 'delete-then-download' && scene.images.removable.length > 0) {
      round.wait('image', 'images that are not needed go first', service.serviceName)
      continue
    }
    planPull(scene, service, asked, round)
  }
  return complete
}

function planPull(
  scene: Scene,
  { image, serviceName }: DesiredService,
  asked: Set<string>,
  round: RoundBuilder,
): void {
  const state = scene.images.stateOf(image)
  if (state.kind === 'downloading') round.wait('download', `${image} is being pulled`, serviceName)
  else if (state.kind === 'failed') {
    round.wait('pull-retry', `the pull of ${image} failed`, serviceName, state.retryAt)
  } else if (asked.has(image)) round.wait('download', `${image} is to be pulled`, serviceName)
  else {
    asked.add(image)
    round.step({ kind: 'pull', image, serviceName })
  }
}
