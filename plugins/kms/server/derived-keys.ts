import { toHex } from '../../../src/attest/hex.ts'
import type { Authority } from '../certificates/authority.ts'
import { publicKeyOf } from '../derivation/curves.ts'
import {
  appCaScalar,
  appRootKey,
  diskKey,
  envKey,
  issuedClaim,
  type RootKeys,
} from '../derivation/kms-keys.ts'
import { signRecoverable } from '../signing/recoverable.ts'
import { appAuthority } from './app-certificates.ts'
import { Latest } from './latest.ts'
import type { RootMaterial } from './root-material.ts'

/** What all instances of an application share. */
export interface AppKeys {
  /** 32 bytes. */
  readonly root: Uint8Array
  /** By which the KMS vouches for it, 65 bytes. */
  readonly rootSignature: Uint8Array
  /** 32 bytes. */
  readonly env: Uint8Array
}

/** Applications whose keys are kept. */
const MOST_APPS = 1000

/**
 * Keys of applications, of which the latest used ones are kept: deriving them takes milliseconds of
 * arithmetic on curves, and an application asks at each of its starts. Only what a policy has
 * allowed may be asked for here, or strangers would decide what is kept. Bytes that `use` is given
 * are valid until it returns.
 */
export class DerivedKeys {
  readonly #apps: Latest<AppKeys>
  readonly #disks: Latest<Uint8Array>
  readonly #authorities: Latest<Authority>

  /** @param most How many applications and, apart from them, instances; 0 keeps nothing. */
  constructor(most = MOST_APPS) {
    this.#apps = new Latest(most, ({ root, env }) => {
      root.fill(0)
      env.fill(0)
    })
    this.#disks = new Latest(most, (key) => key.fill(0))
    this.#authorities = new Latest(most, () => undefined)
  }

  app<T>(root: RootKeys, appId: Uint8Array, use: (keys: AppKeys) => T): T {
    const make = () => {
      const key = appRootKey(root, appId)
      const claim = issuedClaim(appId, publicKeyOf('secp256k1', key))
      const rootSignature = signRecoverable(root.k256, claim)
      return { root: key, rootSignature, env: envKey(root, appId) }
    }
    return this.#apps.use(nameOf(root, appId), make, use)
  }

  disk<T>(
    root: RootKeys,
    appId: Uint8Array,
    instanceId: Uint8Array,
    use: (key: Uint8Array) => T,
  ): T {
    const make = () => diskKey(root, appId, instanceId)
    return this.#disks.use(nameOf(root, appId, instanceId), make, use)
  }

  /** Who signs for an application; its key is in an object of the runtime, out of reach. */
  authority({ root, authority }: RootMaterial, appId: Uint8Array): Authority {
    const make = () => {
      const scalar = appCaScalar(root, appId)
      const own = appAuthority(authority, scalar, appId)
      scalar.fill(0)
      return own
    }
    // What it signs ends in the root certificate, which may be renewed.
    const name = `${nameOf(root, appId)} ${authority.chain[0]}`
    return this.#authorities.use(name, make, (own) => own)
  }

  clear(): void {
    this.#apps.clear()
    this.#disks.clear()
    this.#authorities.clear()
  }
}

const nameOf = ({ version }: RootKeys, ...ids: readonly Uint8Array[]): string =>
  [version, ...ids.map(toHex)].join(' ')
