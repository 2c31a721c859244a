import type { Dependency } from '../target/model.ts'
import type { DesiredService } from './desired.ts'
import { castFor, isHeldBack, mismatch, type Scene, shallRun } from './scene.ts'

/** The first service that has to get further before this one is started; undefined: none. */
export function unmetDependency(scene: Scene, service: DesiredService): string | undefined {
  return service.dependsOn.find((dependency) => !isMet(scene, dependency))?.serviceName
}

function isMet(scene: Scene, { serviceName, condition }: Dependency): boolean {
  const service = scene.app.services.find((one) => one.serviceName === serviceName)
  // One that shall not run is as far as it gets.
  if (service === undefined || !shallRun(scene, service)) return true
  const { main } = castFor(scene, serviceName)
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
