import { createIdentity, type Identity } from './identity.ts'
import { markedSubject, WARNING } from './marks.ts'

const HOUR_MS = 3600 * 1000
const DAY_MS = 24 * HOUR_MS
/** Certificates are issued a little before now, for verifiers whose clock is behind. */
const SKEW_MS = 60_000

/** What is kept; everything below the root is made as it is needed. */
export const NITRO_SUBJECTS = {
  root: markedSubject(`${WARNING} simulator.nitro-enclaves`),
} as const

/** A new root on P-384, valid for 30 years from a day before `now` (Unix milliseconds). */
export function createNitroRoot(now: number): Identity {
  return createIdentity({
    subject: NITRO_SUBJECTS.root,
    curve: 'P-384',
    validFrom: now - DAY_MS,
    validTo: now + 30 * 365 * DAY_MS,
    ca: true,
  })
}

/** What signs documents, and who vouches for it. */
export interface NitroChain {
  readonly leaf: Identity
  /** DER: root, region, zone, instance. */
  readonly cabundle: readonly Uint8Array[]
}

/** How long an enclave's certificate lives; all above it live longer (spec nitro §4). */
export const LEAF_LIFETIME_MS = 3 * HOUR_MS

/** Three authorities under the root and the enclave's certificate, with the real lifetimes. */
export function createNitroChain(root: Identity, moduleId: string, now: number): NitroChain {
  const issue = (issuer: Identity, label: string, lifetime: number, pathLength?: number) =>
    createIdentity(
      {
        subject: markedSubject(`${WARNING} ${label}.simulator.nitro-enclaves`),
        curve: 'P-384',
        validFrom: now - SKEW_MS,
        validTo: now + lifetime,
        ca: pathLength !== undefined,
        pathLength,
      },
      issuer,
    )
  const region = issue(root, 'region', 20 * DAY_MS, 2)
  const zone = issue(region, 'zone', 6 * DAY_MS, 1)
  const instance = issue(zone, 'instance', DAY_MS, 0)
  const leaf = issue(instance, moduleId, LEAF_LIFETIME_MS)
  const cabundle = [root, region, zone, instance].map(({ certificate }) => certificate)
  return { leaf, cabundle }
}
