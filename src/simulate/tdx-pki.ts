import { createIdentity, type Identity } from './identity.ts'
import { markedSubject } from './marks.ts'
import { pckExtension } from './pck-extension.ts'

/**
 * Who vouches for simulated quotes. The common names are Intel's, because verifiers look for
 * them; organisation and unit say that none of this is real.
 */
export interface TdxPki {
  readonly root: Identity
  /** Issuer of the PCK certificate and its revocation list. */
  readonly platformCa: Identity
  /** The platform's own key, which signs the quoting enclave's report. */
  readonly pck: Identity
  /** Signs TCB info and the quoting enclave's identity. */
  readonly tcbSigning: Identity
}

/** By the names of {@link TdxPki}. */
export const TDX_SUBJECTS = {
  root: markedSubject('Intel SGX Root CA'),
  platformCa: markedSubject('Intel SGX PCK Platform CA'),
  pck: markedSubject('Intel SGX PCK Certificate'),
  tcbSigning: markedSubject('Intel SGX TCB Signing'),
} as const

const DAY_MS = 24 * 3600 * 1000
/** What is kept on disk is made once, so it has to outlive its user. */
const YEARS = 30

/** A new hierarchy on P-256, valid from a day before `now` (Unix milliseconds). */
export function createTdxPki(now: number): TdxPki {
  const common = {
    curve: 'P-256',
    validFrom: now - DAY_MS,
    validTo: now + YEARS * 365 * DAY_MS,
  } as const
  const root = createIdentity({ ...common, subject: TDX_SUBJECTS.root, ca: true, pathLength: 1 })
  const platformCa = createIdentity(
    { ...common, subject: TDX_SUBJECTS.platformCa, ca: true, pathLength: 0 },
    root,
  )
  const pck = createIdentity(
    { ...common, subject: TDX_SUBJECTS.pck, ca: false, extensions: [pckExtension()] },
    platformCa,
  )
  const tcbSigning = createIdentity(
    { ...common, subject: TDX_SUBJECTS.tcbSigning, ca: false },
    root,
  )
  return { root, platformCa, pck, tcbSigning }
}
