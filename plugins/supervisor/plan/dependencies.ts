import type { Dependency } from '../target/model.ts'
import type { DesiredService } from './desired.ts'
import { castFor, isHeldBack, isUp, mayBeStarted, mismatch, type Scene, shallRun } from './scene.ts'

/** The first service that has to get further before this one is started; undefined: none. */
export function unmetDependency(scene: Scene, service: DesiredService): string | undefined {
  return service.dependsOn.find((dependency) => !isMet(scene, dependency))?.serviceName
}

function isMet(scene: Scene, { serviceName, condition }: Dependency): boolean {
  const service = scene.app.services.find((one) => one.serviceName === serviceName)
  // One that shall not run is as far as it gets.
  if (service === undefined || !shallRun(scene, service)) return true
  const { main } = castFor(scene, serviceName)
  if (!(main && isUp(main)) && idleOwner(scene, service) === 'network-owner') return true
  if (main === undefined || main.state === 'created') return false
  // What was rolled back serves as it did before.
  if (!isHeldBack(scene, service) && mismatch(scene, service, main) !== undefined) return false
  switch (condition) {
    case 'started':
      return true
    case 'completed':
      return main.state === 'exited' && main.exitCode === 0
    case 'healthy':
      return main.state === 'running' && (main.health === 'healthy' || main.health === 'none')
  }
}

/** The services that name this one, directly. */
export function dependents(scene: Scene, serviceName: string): string[] {
  return scene.app.services
    .filter(({ dependsOn }) => dependsOn.some((one) => one.serviceName === serviceName))
    .map((service) => service.serviceName)
}

/**
 * The engine starts nothing in the network of a container that does not run. `network-owner`: it
 * will not by itself; `dependency`: it will.
 */
export function idleOwner(
  scene: Scene,
  service: DesiredService,
): 'dependency' | 'network-owner' | undefined {
  const ownerOf = ({ networkOf }: DesiredService) => {
    return scene.app.services.find(({ serviceName }) => serviceName === networkOf)
  }
  const first = ownerOf(service)
  for (let owner = first; owner !== undefined; owner = ownerOf(owner)) {
    const { main } = castFor(scene, owner.serviceName)
    if (main !== undefined && isUp(main)) return owner === first ? undefined : 'dependency'
    const ended = main?.state === 'exited' && !mayBeStarted(scene, owner, main)
    if (ended || !shallRun(scene, owner)) return 'network-owner'
  }
  return first && 'dependency'
}
