import { ApiError, messageOf } from '../../../src/errors.ts'
import type { RootKeys } from '../derivation/kms-keys.ts'
import { checkDomain } from '../server/root-files.ts'
import type { RootMaterial } from '../server/root-material.ts'
import { zero } from '../server/root-set.ts'
import {
  createRootKeys,
  openRootKeys,
  RootStoreError,
  type StoreSteps,
} from '../server/root-store.ts'
import { clearRoots, openRoots } from '../server/roots.ts'

/** Where root keys are going to be, and what is said where there are some. */
export interface Target {
  readonly folder: string
  /** What changes the folder; tests give one that fails. */
  readonly steps?: StoreSteps | undefined
  /** Gives up, as long as nothing is written. */
  readonly signal?: AbortSignal | undefined
}

/** In the words of dstack (spec dstack §9.5). */
export type Deed = 'bootstrapped' | 'onboarded'

/**
 * A name at which the KMS is going to be known.
 *
 * @throws {ApiError} 400 `DOMAIN_INVALID`.
 */
export function checkedDomain(domain: string): string {
  try {
    return checkDomain(domain)
  } catch (cause) {
    throw new ApiError(400, 'DOMAIN_INVALID', messageOf(cause), { cause })
  }
}

/**
 * Refuses a folder with any file of root keys in it, damaged or not; what an earlier process began
 * to write is written to its end first.
 *
 * @throws {ApiError} 409 `ROOT_KEYS_EXIST`.
 * @throws {Error} The system error.
 */
export async function assertNoRootKeys({ folder, steps }: Target, deed: Deed): Promise<void> {
  const found = await openRootKeys(folder, steps).catch((error) => {
    throw error instanceof RootStoreError ? alreadyDone(deed, error) : error
  })
  if (!found) return
  zero(found.root)
  throw alreadyDone(deed)
}

/**
 * Whether there are root keys that a start would use.
 *
 * @throws {RootStoreError} For root keys that cannot be used.
 * @throws {Error} The system error.
 */
export async function hasRootKeys({ folder, steps }: Target): Promise<boolean> {
  const found = await openRoots(folder, steps)
  if (found) clearRoots(found)
  return found !== undefined
}

/**
 * Writes root keys for good, as `createRootKeys`.
 *
 * @throws {ApiError} 408 `CALLER_GONE`; 409 `ROOT_KEYS_EXIST` when somebody was faster; 500
 *   `ROOT_KEYS_NOT_WRITTEN`, naming the system error and the folder.
 */
export async function storeRootKeys(
  { folder, steps, signal }: Target,
  material: RootMaterial,
  deed: Deed,
  later: readonly RootKeys[] = [],
  current = 0,
): Promise<void> {
  if (signal?.aborted) {
    throw new ApiError(408, 'CALLER_GONE', `Cannot write root keys to "${folder}": nobody waits`)
  }
  try {
    await createRootKeys(folder, material, later, steps, current)
  } catch (cause) {
    if (cause instanceof RootStoreError && cause.code === 'ROOT_KEYS_EXIST') {
      throw alreadyDone(deed, cause)
    }
    const remedy = 'mend that, then look whether there are keys already: none are overwritten'
    const message = `Cannot write root keys to "${folder}": ${messageOf(cause)}; ${remedy}`
    throw new ApiError(500, 'ROOT_KEYS_NOT_WRITTEN', message, { cause })
  }
}

function alreadyDone(deed: Deed, cause?: RootStoreError): ApiError {
  const message = `KMS has already been ${deed}`
  // The store says the same as we do, and which file there is.
  const why = cause?.message.replace(/^KMS has already been bootstrapped: /, '')
  return new ApiError(409, 'ROOT_KEYS_EXIST', why === undefined ? message : `${message}: ${why}`, {
    cause,
  })
}
