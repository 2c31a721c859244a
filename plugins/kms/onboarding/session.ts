import { ApiError, toApiError } from '../../../src/errors.ts'
import { endpointOf } from '../client/endpoint.ts'
import { RootStoreError } from '../server/root-store.ts'
import {
  type AttestationInfo,
  type AttestationInfoParts,
  attestationInfo,
} from './attestation-info.ts'
import { type BootstrapAnswer, type BootstrapOptions, bootstrap } from './bootstrap.ts'
import { type JoinAnswer, join, type SourceOptions } from './join.ts'
import { hasRootKeys } from './store.ts'

/** What a KMS is set up with. */
export interface SessionParts
  extends Omit<BootstrapOptions, 'domain' | 'signal'>,
    AttestationInfoParts,
    Pick<SourceOptions, 'sourceCa' | 'open'> {
  /** For each connection to another KMS and each of its answers, in milliseconds. Default: 15 s. */
  readonly deadlineMs?: number | undefined
  /** Told of what was done, for the event log. */
  readonly onEvent?: ((text: string) => void) | undefined
}

/** How far a KMS is set up. */
export type SessionState =
  | { readonly kind: 'empty' }
  | { readonly kind: 'bootstrapped'; readonly answer: BootstrapAnswer }
  | { readonly kind: 'joined'; readonly answer: JoinAnswer }
  /** Somebody else made keys, or an earlier process did. */
  | { readonly kind: 'found' }

/** A KMS being set up: one thing at a time. */
export interface Session {
  readonly simulated: boolean
  readonly state: SessionState
  readonly finished: boolean
  /** @throws {ApiError} 409 `ONBOARDING_BUSY`; as `bootstrap`. */
  bootstrap(domain: string, signal: AbortSignal): Promise<BootstrapAnswer>
  /** @throws {ApiError} 409 `ONBOARDING_BUSY`; as `join`. */
  join(sourceUrl: string, domain: string, signal: AbortSignal): Promise<JoinAnswer>
  /** @throws {ApiError} As `attestationInfo`. */
  info(): Promise<AttestationInfo>
  /**
   * Ends the set-up, any number of times.
   *
   * @throws {ApiError} 409 `ONBOARDING_BUSY`, `ROOT_KEYS_MISSING`, `ROOT_KEYS_UNUSABLE`.
   */
  finish(): Promise<void>
}

const DEADLINE_MS = 15_000

export function createSession(parts: SessionParts): Session {
  const { attester, deadlineMs = DEADLINE_MS, onEvent = () => undefined } = parts
  let state: SessionState = { kind: 'empty' }
  let finished = false
  let running: string | undefined
  let info: Promise<AttestationInfo> | undefined

  async function alone<T>(name: string, work: () => Promise<T>): Promise<T> {
    if (running !== undefined) {
      const message = `Cannot ${name}: ${running} is under way, ask again when it is done`
      throw new ApiError(409, 'ONBOARDING_BUSY', message)
    }
    running = name
    try {
      return await work()
    } catch (thrown) {
      const exists = toApiError(thrown).code === 'ROOT_KEYS_EXIST'
      if (exists && state.kind === 'empty') state = { kind: 'found' }
      throw thrown
    } finally {
      running = undefined
    }
  }

  return {
    simulated: attester.simulated,
    get state() {
      return state
    },
    get finished() {
      return finished
    },
    bootstrap: (domain, signal) =>
      alone('bootstrap', async () => {
        const answer = await bootstrap({ ...parts, domain, signal })
        state = { kind: 'bootstrapped', answer }
        onEvent(`made root keys for ${domain}`)
        return answer
      }),
    join: (sourceUrl, domain, signal) =>
      alone('join', async () => {
        const answer = await join({ ...parts, deadlineMs, sourceUrl, domain, signal })
        state = { kind: 'joined', answer }
        onEvent(`took over the root keys of ${endpointOf(sourceUrl).url} for ${domain}`)
        return answer
      }),
    info() {
      info ??= attestationInfo(parts).finally(() => {
        info = undefined
      })
      return info
    },
    finish: () =>
      alone('finish', async () => {
        if (finished) return
        await assertDone(parts)
        finished = true
        onEvent('the KMS is set up')
      }),
  }
}

async function assertDone(parts: SessionParts): Promise<void> {
  const found = await hasRootKeys(parts).catch((cause) => {
    if (!(cause instanceof RootStoreError)) throw cause
    throw new ApiError(409, 'ROOT_KEYS_UNUSABLE', `Failed to onboard: ${cause.message}`, { cause })
  })
  if (found) return
  const why = 'there are no root keys yet, ask for Bootstrap or Onboard first'
  throw new ApiError(409, 'ROOT_KEYS_MISSING', `Failed to onboard: ${why}`)
}
