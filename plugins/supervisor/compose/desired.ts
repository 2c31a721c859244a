import type { Desired, DesiredApp, DesiredService, UpdateStrategy } from '../plan/desired.ts'
import { isTruthy } from '../target/labels.ts'
import type { Target, TargetApp, TargetService } from '../target/model.ts'
import { askFor, serviceLabels } from './asked.ts'
import type { ComposeContext } from './context.ts'
import { identify } from './identity.ts'
import { containerName } from './names.ts'
import { networkSpecs, volumeSpecs } from './objects.ts'

const STRATEGY = 'io.balena.update.strategy'
const HANDOVER_TIMEOUT = 'io.balena.update.handover-timeout'
const REQUIRES_REBOOT = 'io.balena.update.requires-reboot'
const IMAGE_CLASS = 'io.balena.image.class'
const IMAGE_STORE = 'io.balena.image.store'

const STRATEGIES: ReadonlySet<string> = new Set<UpdateStrategy>([
  'download-then-kill',
  'kill-then-download',
  'delete-then-download',
  'hand-over',
])

const DEFAULT_TIMEOUT_MS = 60_000
/** Timers of JavaScript count in 31 bits. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1

/** The target as a plan sees it. */
export function desiredState(target: Target, context: ComposeContext): Desired {
  return { apps: target.apps.map((app) => desiredApp(app, context)) }
}

export function desiredApp(app: TargetApp, context: ComposeContext): DesiredApp {
  return {
    appId: app.appId,
    commit: app.commit,
    releaseId: app.releaseId,
    rejected: app.rejected,
    services: app.services
      .filter((service) => !app.isHost || isForContainers(service))
      .map((service) => desiredService(service, app, context)),
    networks: networkSpecs(app).map(({ shortName, name, hash }) => ({ shortName, name, hash })),
    volumes: volumeSpecs(app).map(({ shortName, name, hash }) => ({ shortName, name, hash })),
  }
}

function desiredService(
  service: TargetService,
  app: TargetApp,
  context: ComposeContext,
): DesiredService {
  const { asked } = askFor(service, app, context)
  const { hash, fields } = identify(asked, context.maskKey)
  const labels = serviceLabels(service)
  const named = asked.volumes?.flatMap((mount) => (mount.type === 'named' ? [mount.source] : []))
  const mode = asked.network_mode
  return {
    serviceName: service.serviceName,
    image: service.image,
    name: containerName(service, app),
    hash,
    fields,
    running: service.running,
    strategy: strategyOf(labels[STRATEGY]),
    handoverTimeoutMs: timeoutOf(labels[HANDOVER_TIMEOUT]),
    dependsOn: service.dependsOn,
    networks: asked.networks.map(([name]) => name),
    volumes: [...new Set(named)],
    networkOf: mode?.kind === 'service' ? mode.serviceName : undefined,
    usesSupervisorNetwork: asked.supervisor_network,
    requiresReboot: isTruthy(labels[REQUIRES_REBOOT]),
  }
}

function strategyOf(label: string | undefined): UpdateStrategy {
  const known = label !== undefined && STRATEGIES.has(label)
  return known ? (label as UpdateStrategy) : 'download-then-kill'
}

function timeoutOf(label: string | undefined): number {
  const known = label !== undefined && /^[0-9]{1,10}$/.test(label)
  return known ? Math.min(Number(label), MAX_TIMEOUT_MS) : DEFAULT_TIMEOUT_MS
}

/** A host app has parts that are no containers (spec §11). */
function isForContainers(service: TargetService): boolean {
  const labels = serviceLabels(service)
  const { [IMAGE_CLASS]: kind = 'service', [IMAGE_STORE]: store = 'data' } = labels
  return kind === 'service' && store === 'data'
}
