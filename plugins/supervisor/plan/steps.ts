/** A plan for one round: after its steps, or when something changed, the next one is made. */
export interface Plan {
  /** What belongs to no app: the supervisor's network, images nobody needs. */
  readonly shared: Round
  /** By app id, every app of the target and every one that still has objects. */
  readonly apps: ReadonlyMap<number, Round>
}

/**
 * What is to be done for one app now. The steps do not depend on each other: they may run in any
 * order or at once, and the failure of one needs no others undone.
 */
export interface Round {
  readonly steps: readonly Step[]
  /** What keeps it from being done; with no steps and no waits the target is reached. */
  readonly waits: readonly Wait[]
}

export type Step =
  /** Several apps may ask for one image: a running pull of the same reference serves them all. */
  | { readonly kind: 'pull'; readonly image: string; readonly serviceName: string }
  /** Removes one name of an image, never by force. Its failure fails nothing. */
  | { readonly kind: 'remove-image'; readonly image: string }
  | { readonly kind: 'create-network'; readonly network: string; readonly name: string }
  | { readonly kind: 'remove-network'; readonly id: string; readonly name: string }
  | { readonly kind: 'create-volume'; readonly volume: string; readonly name: string }
  | { readonly kind: 'remove-volume'; readonly name: string }
  | { readonly kind: 'create-supervisor-network' }
  | { readonly kind: 'remove-supervisor-network' }
  | CreateStep
  | StartStep
  | StopStep
  | RemoveStep
  | RenameStep
  | BeginHandoverStep
  | FinishHandoverStep
  | AbortHandoverStep
  /** The app is what the target says; undefined: it is gone, forget it. */
  | { readonly kind: 'note-commit'; readonly commit: string | undefined }

export interface CreateStep {
  readonly kind: 'create'
  readonly serviceName: string
  readonly name: string
  readonly hash: string
  /** Id of the container whose network it shares. */
  readonly networkContainer: string | undefined
  /** The old container made room for it, so what was begun is brought to its end. */
  readonly handover: boolean
}

export interface StartStep {
  readonly kind: 'start'
  readonly serviceName: string
  readonly containerId: string
  /** The {@link Halt} that was recorded for the service ends. */
  readonly endsHalt: boolean
}

export interface StopStep {
  readonly kind: 'stop'
  readonly serviceName: string
  readonly containerId: string
  readonly why: Why
}

/** The container does not run (or cannot: `dead`). Its anonymous volumes go with it. */
export interface RemoveStep {
  readonly kind: 'remove'
  readonly serviceName: string
  readonly containerId: string
  readonly why: Why
}

/** A new release with the same configuration. */
export interface RenameStep {
  readonly kind: 'rename'
  readonly serviceName: string
  readonly containerId: string
  readonly from: string
  readonly to: string
}

/**
 * The old container makes room: the service's hand-over files are removed, its restart policy
 * becomes `no` (where the engine can change it), it is stopped if `stop` (an update on trial), and
 * renamed last, so that a crash before leaves it to be done again.
 */
export interface BeginHandoverStep {
  readonly kind: 'begin-handover'
  readonly serviceName: string
  readonly containerId: string
  readonly from: string
  /** `old_…` */
  readonly to: string
  readonly stop: boolean
  readonly why: Why
}

export type FinishReason =
  /** The new one says that it took over. */
  | 'file'
  | 'healthy'
  /** It ran long enough. */
  | 'stable'
  /** It did its work: status 0. */
  | 'completed'
  | 'timeout'
  /** The old one does not run, and nobody wants it back. */
  | 'old-gone'
  /** The service shall not run. */
  | 'not-running'

/** Stops and removes the old container. */
export interface FinishHandoverStep {
  readonly kind: 'finish-handover'
  readonly serviceName: string
  readonly containerId: string
  readonly because: FinishReason
}

/**
 * Brings the old container back: `failedHash` is recorded first, then the new container is stopped
 * and removed, the old one gets its restart policy again, is started if `start`, and gets its name
 * back last, so that a crash before leaves it to be done again.
 */
export interface AbortHandoverStep {
  readonly kind: 'abort-handover'
  readonly serviceName: string
  readonly oldId: string
  readonly newId: string | undefined
  /** Name of the old container, and the one it gets. */
  readonly from: string
  readonly to: string
  readonly start: boolean
  /** Undefined when the target went back to the old configuration by itself. */
  readonly failedHash: string | undefined
  readonly because: 'unhealthy' | 'exited' | 'timeout' | 'target'
}

/** Why a container has to go, or to stop. */
export type Why =
  /** `["image", "environment.LOG_LEVEL"]`, no values. */
  | { readonly kind: 'changed'; readonly fields: readonly string[] }
  /** The target does not name it any more. */
  | { readonly kind: 'gone' }
  /** The target says `running: false`. A stop for it is recorded as a halt by the target. */
  | { readonly kind: 'not-running' }
  /** The user stopped it, and something else started it. */
  | { readonly kind: 'halted' }
  /** A network or volume it uses has to be made anew. */
  | { readonly kind: 'network' | 'volume'; readonly name: string }
  /** The service whose network it shares has another container. */
  | { readonly kind: 'network-owner'; readonly serviceName: string }
  /** It was asked for (restart, purge). */
  | { readonly kind: 'recreate' }
  /** Another container is the one of the service. */
  | { readonly kind: 'duplicate' }
  /** The engine could not finish with it. */
  | { readonly kind: 'dead' }

export interface Wait {
  readonly kind: WaitKind
  readonly serviceName: string | undefined
  /** When to plan again at the latest, in milliseconds since 1970; undefined: at the next change. */
  readonly until: number | undefined
  /** For people: what is waited for. */
  readonly message: string
}

export type WaitKind =
  | 'download'
  | 'pull-retry'
  | 'image'
  | 'dependency'
  | 'order'
  | 'handover'
  | 'trial'
  | 'removing'
  | 'reboot'
  | 'supervisor-network'
  /** Those below do not end by themselves. */
  | 'network-owner'
  | 'failed-update'
  | 'name-taken'
  | 'volume-changed'
  | 'rejected'

/** True for a step that must not be done while an application holds its update lock (spec §8.4). */
export function needsLock(step: Step): boolean {
  switch (step.kind) {
    case 'create':
      return !step.handover
    case 'stop':
    case 'remove':
    case 'rename':
      return true
    // A trial stops the old container; a true hand-over leaves it to it when to go.
    case 'begin-handover':
      return step.stop
    default:
      return false
  }
}
