import { messageOf } from '../../../src/errors.ts'
import type { EventSink } from '../../../src/events/sink.ts'
import { canonicalJson, sha256 } from '../compose/canonical.ts'
import { type KeptTarget, TargetStore } from '../store/targets.ts'
import type { AcceptedTarget, Source, SupervisorOptions } from '../supervisor.ts'
import { applyContracts } from '../target/contracts.ts'
import type { Target } from '../target/model.ts'
import {
  type ParsedTarget,
  parseCloudTarget,
  parseLocalTarget,
  parsePreloaded,
} from '../target/parse.ts'
import { isObject } from '../target/place.ts'
import { readSettings } from '../target/settings.ts'
import { SupervisorError } from './supervisor-error.ts'

export const SOURCES: readonly Source[] = ['local', 'file', 'url']

export interface TargetKeeperOptions
  extends Pick<
    SupervisorOptions,
    | 'stateFolder'
    | 'deviceUuid'
    | 'facts'
    | 'strict'
    | 'requireDigest'
    | 'measureTarget'
    | 'bootId'
    | 'localMode'
    | 'targetFile'
    | 'targetUrl'
  > {
  readonly events: EventSink
  /** Another target is in force. */
  readonly onTarget: (target: Target, options: { readonly force: boolean }) => void
}

interface Kept {
  readonly accepted: AcceptedTarget
  /** Of its one form. */
  readonly digest: string
}

/** The targets of all sources, and which one is in force. */
export class TargetKeeper {
  readonly #options: TargetKeeperOptions
  readonly #store: TargetStore<Source>
  readonly #kept = new Map<Source, Kept>()
  /** What was read and is not in use yet. */
  readonly #stored = new Map<Source, KeptTarget>()
  /** One after the other, in the order they came. */
  #last: Promise<unknown> = Promise.resolve()
  /** That is in force. */
  #current: string | undefined

  constructor(options: TargetKeeperOptions) {
    this.#options = options
    this.#store = new TargetStore(options.stateFolder, SOURCES, (message) => {
      options.events.append(message, { level: 'warn' })
    })
  }

  /** Where fetched targets come from; undefined when none is fetched. */
  get fetched(): Exclude<Source, 'local'> | undefined {
    if (this.#options.targetUrl) return 'url'
    return this.#options.targetFile === undefined ? undefined : 'file'
  }

  /** Spec §6; a target that is posted does not end it, as it does in balena's supervisor. */
  get localMode(): boolean {
    const { localMode } = this.#options
    if (localMode !== undefined) return localMode
    const fetched = this.fetched
    if (fetched === undefined) return true
    const target = this.#kept.get(fetched)?.accepted.target
    return target !== undefined && readSettings(target.config).localMode
  }

  get source(): Source | undefined {
    return this.localMode ? 'local' : this.fetched
  }

  get target(): Target | undefined {
    const { source } = this
    return source && this.#kept.get(source)?.accepted.target
  }

  /**
   * What was stored comes into force. What does not hold by the rules of now is left where it is.
   *
   * @throws {SupervisorError} `STATE_NOT_STORED`.
   */
  async open(): Promise<void> {
    for (const source of SOURCES) {
      const stored = await this.#store.read(source)
      if (stored === undefined) continue
      this.#stored.set(source, stored)
    }
    await this.retry()
  }

  /** What was stored and could not be used, because it could not be measured, gets a new chance. */
  retry(): Promise<void> {
    const run = this.#last.then(async () => {
      for (const [source, stored] of this.#stored) {
        try {
          await this.#restore(source, stored)
          this.#stored.delete(source)
        } catch (error) {
          const why = `the stored target of source ${source} is not used: ${messageOf(error)}`
          this.#options.events.append(why, { level: 'warn' })
          if (!(error instanceof SupervisorError)) this.#stored.delete(source)
        }
      }
      this.#adopt(false)
    })
    this.#last = run.catch(() => {})
    return run
  }

  async #restore(source: Source, { body, measured }: KeptTarget): Promise<void> {
    const kept = this.#parse(body, source)
    if (measured?.digest !== kept.digest || measured.bootId !== this.#options.bootId) {
      await this.#measure(kept.digest)
      await this.#write(source, body, kept.digest)
    }
    this.#kept.set(source, kept)
  }

  /**
   * Takes a target: it is checked, measured where that is asked for, stored, and then in force if
   * its source is.
   *
   * @throws {TargetError} The one before stays in force.
   * @throws {SupervisorError} `NOT_LOCAL`, `TARGET_NOT_MEASURED`, `STATE_NOT_STORED`.
   */
  accept(body: unknown, source: Source, { force = false } = {}): Promise<AcceptedTarget> {
    const run = this.#last.then(async () => {
      if (source === 'local' && !this.localMode) {
        const message = 'Target state can only set when device is in local mode'
        throw new SupervisorError('NOT_LOCAL', message)
      }
      const kept = this.#parse(body, source)
      const same = this.#kept.get(source)?.digest === kept.digest
      if (!same) {
        await this.#measure(kept.digest)
        await this.#write(source, body, kept.digest)
      }
      this.#kept.set(source, kept)
      this.#stored.delete(source)
      this.#adopt(force)
      return kept.accepted
    })
    this.#last = run.catch(() => {})
    return run
  }

  /** Afterwards no target is taken. */
  close(): Promise<void> {
    return this.#store.close()
  }

  #adopt(force: boolean): void {
    const { source } = this
    const kept = source && this.#kept.get(source)
    if (!kept) return
    const name = `${source} ${kept.digest}`
    if (name !== this.#current) {
      const { length } = kept.accepted.target.apps
      const from = `from source ${source}, ${length} ${length === 1 ? 'app' : 'apps'}`
      this.#options.events.append(`target ${kept.digest.slice(0, 16)} in force, ${from}`)
    } else if (!force) return
    this.#current = name
    this.#options.onTarget(kept.accepted.target, { force })
  }

  #parse(body: unknown, source: Source): Kept {
    const { facts, strict = false, requireDigest = false, deviceUuid } = this.#options
    const options = { strict, requireDigest }
    const { target: given, warnings } = parseAs(body, source, deviceUuid, options)
    const target = facts ? applyContracts(given, facts) : given
    return { accepted: { target, warnings }, digest: sha256(canonicalJson(given)) }
  }

  async #measure(digest: string): Promise<void> {
    const { measureTarget } = this.#options
    if (!measureTarget) return
    try {
      await measureTarget(digest)
    } catch (cause) {
      const message = `The target could not be measured, so it is not applied: ${messageOf(cause)}`
      throw new SupervisorError('TARGET_NOT_MEASURED', message, { cause })
    }
    this.#options.events.append(`target ${digest} measured`)
  }

  async #write(source: Source, body: unknown, digest: string): Promise<void> {
    const { measureTarget, bootId } = this.#options
    await this.#store.write(source, {
      body: withoutForce(body),
      ...(measureTarget ? { measured: { digest, bootId } } : {}),
    })
  }
}

/** A file may be in any form; what is posted is in v2 form, what is fetched in v3 form. */
function parseAs(
  body: unknown,
  source: Source,
  deviceUuid: string,
  options: { readonly strict: boolean; readonly requireDigest: boolean },
): ParsedTarget {
  if (source === 'local') return parseLocalTarget(body, options)
  if (source === 'url' || !isObject(body) || Object.hasOwn(body, deviceUuid)) {
    return parseCloudTarget(body, deviceUuid, options)
  }
  if (Object.hasOwn(body, 'local')) return parseLocalTarget(body, options)
  if (Object.hasOwn(body, 'apps')) return parsePreloaded(body, options)
  return parseCloudTarget(body, deviceUuid, options)
}

/** It was for the request. */
function withoutForce(body: unknown): unknown {
  if (!isObject(body) || !Object.hasOwn(body, 'force')) return body
  const { force: _, ...rest } = body
  return rest
}
