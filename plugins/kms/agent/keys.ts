import type { AppIdentitySource } from '../../../src/attester/app-identity.ts'
import type { Attester } from '../../../src/attester/attester.ts'
import type { Config } from '../config.ts'
import { Issuer } from './issuer.ts'
import type { KeySource } from './key-source.ts'
import { Keyring } from './keyring.ts'

/** The keys of an application and all that is made with them. */
export interface Keys {
  /** Zeroed with `clear`. */
  readonly keyring: Keyring
  readonly issuer: Issuer
  /** Where the keys come from, for the event log. */
  readonly from: string
}

/** What keys are used with. */
export interface KeysOptions {
  readonly config: Pick<Config, 'permitted_keys' | 'cached_keys' | 'evidence_form'>
  readonly attestation: Attester
  readonly appIdentity: AppIdentitySource
}

export function keysFrom(source: KeySource, options: KeysOptions): Keys {
  const { config, attestation, appIdentity } = options
  const { permitted_keys, cached_keys, evidence_form } = config
  return {
    keyring: new Keyring(source, permitted_keys, cached_keys),
    issuer: new Issuer(attestation, appIdentity, evidence_form, source.authority),
    from: source.from,
  }
}
