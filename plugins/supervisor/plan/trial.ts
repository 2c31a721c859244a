import { type CurrentContainer, serviceKey } from './current.ts'
import type { DesiredService } from './desired.ts'
import type { TrialOptions } from './options.ts'
import { isUp, type Scene, shallRun } from './scene.ts'
import type { AbortHandoverStep, FinishReason } from './steps.ts'

/** What becomes of a new container beside which the old one still exists. */
export type Verdict =
  | { readonly kind: 'finish'; readonly because: FinishReason }
  | { readonly kind: 'abort'; readonly because: AbortHandoverStep['because'] }
  /** Until then at the latest. */
  | { readonly kind: 'wait'; readonly until: number }
  /** It was not started yet. */
  | { readonly kind: 'start' }

/**
 * Judges a hand-over (the old container runs too) or a trial (it is stopped and kept), from facts
 * alone, so that it goes on where it was after a restart of the daemon (spec §15, §24.7, §24.29).
 */
export function judge(
  scene: Scene,
  service: DesiredService,
  main: CurrentContainer,
  old: CurrentContainer,
): Verdict {
  if (!shallRun(scene, service)) return { kind: 'finish', because: 'not-running' }
  const { trial } = scene.options
  if (!isUp(old) && trial === undefined) return { kind: 'finish', because: 'old-gone' }
  if (main.state === 'created') return { kind: 'start' }
  const key = serviceKey(scene.app.appId, service.serviceName)
  const signalled = scene.current.handoverFiles.has(key)
  const { now } = scene.options
  if (trial === undefined) {
    if (signalled) return { kind: 'finish', because: 'file' }
    if (main.health === 'healthy') return { kind: 'finish', because: 'healthy' }
    const until = main.createdAt + service.handoverTimeoutMs
    return now >= until ? { kind: 'finish', because: 'timeout' } : { kind: 'wait', until }
  }
  if (main.state === 'exited' && main.exitCode === 0) {
    return { kind: 'finish', because: 'completed' }
  }
  if (main.state === 'exited' || main.state === 'dead') return { kind: 'abort', because: 'exited' }
  if (main.health === 'unhealthy') return { kind: 'abort', because: 'unhealthy' }
  if (signalled) return { kind: 'finish', because: 'file' }
  if (main.health === 'healthy') return { kind: 'finish', because: 'healthy' }
  return isUp(old) ? judgeHandover(service, main, trial, now) : judgeTrial(main, trial, now)
}

/** Neither signal nor health, and the old one can come back. */
function judgeHandover(
  service: DesiredService,
  main: CurrentContainer,
  trial: TrialOptions,
  now: number,
): Verdict {
  const until = main.createdAt + service.handoverTimeoutMs
  if (now < until) return { kind: 'wait', until }
  const good = main.health === 'none' && isStable(main, trial, now)
  // A check that is not through by then, or a container that keeps ending, had its time.
  if (good) return { kind: 'finish', because: 'timeout' }
  const latest = main.createdAt + Math.max(service.handoverTimeoutMs, trial.timeoutMs)
  return now < latest ? { kind: 'wait', until: latest } : { kind: 'abort', because: 'timeout' }
}

function judgeTrial(main: CurrentContainer, trial: TrialOptions, now: number): Verdict {
  if (main.health === 'none' && isStable(main, trial, now)) {
    return { kind: 'finish', because: 'stable' }
  }
  const latest = main.createdAt + trial.timeoutMs
  if (now >= latest) return { kind: 'abort', because: 'timeout' }
  const stable = (main.startedAt ?? main.createdAt) + trial.stableMs
  const soon = main.health === 'none' && main.state === 'running' && stable > now
  return { kind: 'wait', until: soon ? Math.min(stable, latest) : latest }
}

function isStable(main: CurrentContainer, { stableMs }: TrialOptions, now: number): boolean {
  return main.state === 'running' && now - (main.startedAt ?? now) >= stableMs
}
