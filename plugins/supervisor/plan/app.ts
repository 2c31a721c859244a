import type { Current, CurrentContainer } from './current.ts'
import { dependents } from './dependencies.ts'
import type { DesiredApp } from './desired.ts'
import { groupBy } from './group.ts'
import type { Images } from './images.ts'
import { planObjects, sortObjects } from './objects.ts'
import type { PlanOptions } from './options.ts'
import { planPulls } from './pulls.ts'
import { RoundBuilder } from './round.ts'
import { castOf, type Scene } from './scene.ts'
import { discard, planService } from './service.ts'
import type { Round, Step } from './steps.ts'

/** What all apps of a plan share. */
export interface Whole {
  readonly current: Current
  readonly options: PlanOptions
  readonly images: Images
  readonly renewsSupervisorNetwork: boolean
  /** Names of containers, to their ids. */
  readonly names: ReadonlyMap<string, string>
  /** Containers by app id. */
  readonly containers: ReadonlyMap<number, readonly CurrentContainer[]>
}

/** @param gone The target does not name the app: all it has is to go. */
export function planApp(app: DesiredApp, gone: boolean, whole: Whole): Round {
  const round = new RoundBuilder()
  if (app.rejected !== undefined) {
    round.wait('rejected', app.rejected)
    return round
  }
  const scene = sceneOf(app, gone, whole)
  const imagesComplete = planPulls(scene, round)
  const wanted = new Set(app.services.map(({ serviceName }) => serviceName))
  for (const [serviceName, { main, old, extras, leaving }] of scene.casts) {
    if (wanted.has(serviceName)) continue
    for (const container of [main, old, ...extras, ...leaving]) {
      if (container === undefined) continue
      if (imagesComplete) discard(container, { kind: 'gone' }, round)
      else round.wait('image', `${serviceName} stays until all images are here`, serviceName)
    }
  }
  for (const service of app.services) planService(scene, service, { imagesComplete }, round)
  const ordered = inOrder(scene, round)
  planObjects(app, scene.objects, whole.current, ordered)
  if (ordered.settled) noteCommit(app, gone, whole.current, ordered)
  return ordered
}

function sceneOf(app: DesiredApp, gone: boolean, whole: Whole): Scene {
  const { current, options } = whole
  const byService = groupBy(whole.containers.get(app.appId) ?? [], (one) => one.serviceName)
  const hashes = new Map(app.services.map(({ serviceName, hash }) => [serviceName, hash]))
  const casts = [...byService].map(
    ([name, containers]) => [name, castOf(containers, name, hashes.get(name))] as const,
  )
  const objects = sortObjects(app, gone, current, options)
  return { ...whole, app, objects, casts: new Map(casts) }
}

/** A service is stopped after those that need it, as far as they are stopped at all. */
function inOrder(scene: Scene, round: RoundBuilder): RoundBuilder {
  const stopping = new Set<string>()
  for (const step of round.steps) if (step.kind === 'stop') stopping.add(step.serviceName)
  const ordered = new RoundBuilder()
  ordered.waits.push(...round.waits)
  for (const step of round.steps) {
    const first = step.kind === 'stop' ? stoppedBefore(scene, step, stopping) : undefined
    if (first === undefined) ordered.step(step)
    else if ('serviceName' in step) {
      ordered.wait('order', `${step.serviceName} stops after ${first}`, step.serviceName)
    }
  }
  return ordered
}

function stoppedBefore(
  scene: Scene,
  { serviceName }: Extract<Step, { kind: 'stop' }>,
  stopping: ReadonlySet<string>,
): string | undefined {
  return dependents(scene, serviceName).find((name) => stopping.has(name))
}

function noteCommit(
  { appId, commit }: DesiredApp,
  gone: boolean,
  { commits }: Current,
  round: RoundBuilder,
): void {
  const wanted = gone ? undefined : commit
  if (commits.get(appId) !== wanted) round.step({ kind: 'note-commit', commit: wanted })
}
