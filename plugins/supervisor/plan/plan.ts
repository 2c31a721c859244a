import { SUPERVISOR_NETWORK } from '../compose/supervisor-network.ts'
import { planApp, type Whole } from './app.ts'
import type { Current } from './current.ts'
import type { Desired, DesiredApp } from './desired.ts'
import { groupBy } from './group.ts'
import { indexImages, removeImages } from './images.ts'
import type { PlanOptions } from './options.ts'
import { RoundBuilder } from './round.ts'
import type { Plan, Round } from './steps.ts'

/**
 * What to do next so that the engine has what the target wants (spec §15, §16, §23.1). Pure: the
 * same facts give the same plan, and when nothing is left to do it is empty. Apps do not depend on
 * each other: what fails or waits in one holds up no other.
 */
export function plan(current: Current, desired: Desired, options: PlanOptions): Plan {
  const images = indexImages(current, desired, options)
  const needed = needsSupervisorNetwork(desired)
  const whole: Whole = {
    current,
    options,
    images,
    renewsSupervisorNetwork: needed && current.supervisorNetwork === 'wrong',
    names: new Map(current.containers.map(({ name, id }) => [name, id])),
    containers: groupBy(current.containers, ({ appId }) => appId),
  }
  const apps = new Map<number, Round>()
  for (const app of desired.apps) apps.set(app.appId, planApp(app, false, whole))
  for (const appId of formerApps(current, apps, options)) {
    apps.set(appId, planApp(withNothing(appId), true, whole))
  }
  const shared = new RoundBuilder()
  if (needed) planSupervisorNetwork(current, shared)
  for (const step of removeImages(images)) shared.step(step)
  return { shared, apps }
}

/** Nothing to do, and nothing to wait for. */
export function isDone({ shared, apps }: Plan): boolean {
  const isEmpty = ({ steps, waits }: Round) => steps.length === 0 && waits.length === 0
  return isEmpty(shared) && [...apps.values()].every(isEmpty)
}

/** Apps that have something and are not in the target. */
function formerApps(
  { containers, networks, volumes, commits }: Current,
  known: ReadonlyMap<number, unknown>,
  { keepVolumes }: PlanOptions,
): Set<number> {
  const objects = [...containers, ...networks, ...(keepVolumes ? [] : volumes)]
  const ids = new Set([...objects.map(({ appId }) => appId), ...commits.keys()])
  return new Set([...ids].filter((appId) => !known.has(appId)))
}

function withNothing(appId: number): DesiredApp {
  return {
    appId,
    commit: undefined,
    releaseId: undefined,
    rejected: undefined,
    services: [],
    networks: [],
    volumes: [],
  }
}

function needsSupervisorNetwork({ apps }: Desired): boolean {
  const planned = apps.filter(({ rejected }) => rejected === undefined)
  return planned.some(({ services }) => services.some((one) => one.usesSupervisorNetwork))
}

/** A wrong one goes when nothing of ours is attached to it any more (spec §13.4). */
function planSupervisorNetwork(
  { supervisorNetwork, containers }: Current,
  shared: RoundBuilder,
): undefined {
  if (supervisorNetwork === 'ready') return
  if (supervisorNetwork === 'absent') return shared.step({ kind: 'create-supervisor-network' })
  const attached = containers.some(({ networks }) => networks.includes(SUPERVISOR_NETWORK))
  if (attached) shared.wait('supervisor-network', 'the supervisor network is still in use')
  else shared.step({ kind: 'remove-supervisor-network' })
}
