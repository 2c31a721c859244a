import type { BootInfo } from './boot-info.ts'

/** Decides who may get keys. It is asked on every request: an approval is never remembered. */
export interface Policy {
  /**
   * Whether an application may have its keys.
   *
   * @param signal Gives up waiting for an answer.
   * @throws {PolicyError} When there is no answer to go by.
   */
  app(info: BootInfo, signal?: AbortSignal): Promise<Decision>
  /** The same for a KMS, which would get the root keys of this one. */
  kms(info: BootInfo, signal?: AbortSignal): Promise<Decision>
  /**
   * What GetMeta tells of the policy.
   *
   * @throws {PolicyError} When a service that has to be asked does not answer.
   */
  describe(signal?: AbortSignal): Promise<PolicyFacts>
}

/** As what somebody asks for keys. */
export type Role = 'app' | 'kms'

/** What a policy answers. */
export type Decision = Approval | Denial

export interface Approval {
  readonly allowed: true
  /** The id of the gateway's application as the policy writes it; empty where there is none. */
  readonly gatewayAppId: string
  /** Names of the keys the application may have; undefined: any. */
  readonly keys?: readonly string[] | undefined
}

export interface Denial {
  readonly allowed: false
  /** In the words of dstack (spec dstack §9.3), or of the service that was asked. */
  readonly reason: string
  readonly code: DenialCode
}

/** The seed's codes for somebody who is not to have keys (spec dstack §9.1). */
export type DenialCode = 'UNAUTHORIZED' | 'MEASUREMENT_NOT_FOUND'

/** About the policy itself, for GetMeta (spec dstack §9.1, §9.3); what it does not have is left out. */
export interface PolicyFacts {
  /** Everybody is allowed. */
  readonly isDev: boolean
  readonly gatewayAppId?: string | undefined
  /** Address of the contract, `0x` and 40 digits. */
  readonly kmsContractAddress?: string | undefined
  readonly chainId?: number | undefined
  readonly appImplementation?: string | undefined
  /** Without path, query and credentials, which tend to be secret. */
  readonly ethRpcUrl?: string | undefined
}

/** Why a policy gave no answer. */
export type PolicyErrorCode =
  | 'POLICY_UNREACHABLE'
  | 'POLICY_TIMEOUT'
  | 'POLICY_ABORTED'
  | 'POLICY_REFUSED'
  | 'POLICY_MALFORMED'
  | 'POLICY_TOO_LARGE'
  | 'POLICY_SETUP'
  | 'POLICY_CHAIN'
  | 'POLICY_REVERTED'

/**
 * No answer to go by: never an approval, and not the caller's fault, so the KMS answers
 * `INTERNAL_ERROR`. The message holds no secret of ours.
 *
 * `POLICY_REFUSED` is a status or an error instead of an answer, `POLICY_SETUP` a file of ours that
 * cannot be used, `POLICY_CHAIN` another chain than the configured one or no contract there.
 */
export class PolicyError extends Error {
  override readonly name = 'PolicyError'
  readonly code: PolicyErrorCode

  constructor(code: PolicyErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** Longest text of others that a reason or an error repeats, in characters. */
const MAX_QUOTED = 512

/** Text of others, bounded and on one line. */
export function quoted(text: string): string {
  return text.slice(0, MAX_QUOTED).replace(/[\p{Cc}\p{Cs}\u2028\u2029]+/gu, ' ')
}

/** Denials because something measured is not registered; of files, contracts and webhooks alike. */
const NOT_REGISTERED = new Set([
  'os image is not allowed',
  'system mr not allowed',
  'aggregated mr not allowed',
  'app not registered',
  'app not deployed or invalid address',
  'compose hash not allowed',
])

/** A denial for this reason, with the code that goes with it (spec dstack §9.1). */
export function deny(reason: string): Denial {
  const registered = !NOT_REGISTERED.has(reason.trim().toLowerCase())
  const code = registered ? 'UNAUTHORIZED' : 'MEASUREMENT_NOT_FOUND'
  return { allowed: false, reason: quoted(reason), code }
}

/**
 * Denies those who measured no image, or no application where one is asked for, before anybody is
 * asked: an empty hash must not become the zeros that a contract or a service may have registered.
 */
export function denyUnmeasured(info: BootInfo, role: Role): Denial | undefined {
  if (info.osImageHash === '') return deny('OS image is not allowed')
  if (role === 'app' && info.composeHash === '') return deny('compose hash not allowed')
  return undefined
}
