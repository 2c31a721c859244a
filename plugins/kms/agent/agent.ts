import type { AppIdentitySource } from '../../../src/attester/app-identity.ts'
import type { Attester } from '../../../src/attester/attester.ts'
import type { Config } from '../config.ts'
import { signData, verifyData } from '../signing/messages.ts'
import { Issuer } from './issuer.ts'
import { readKeyFile } from './key-file.ts'
import { Keyring } from './keyring.ts'
import { localKeys } from './local-keys.ts'

/** What an agent is made from. */
export interface AgentOptions {
  readonly config: Config
  readonly attestation: Attester
  readonly appIdentity: AppIdentitySource
  /** Where keys of the VM's own are kept. */
  readonly stateDir: string
  /** Told when there were none yet. */
  readonly madeKeys: () => void
}

/** The keys of a running plugin and all that is done with them. */
export interface Agent {
  readonly keyring: Keyring
  readonly issuer: Issuer
  /** Where the keys come from, for the event log. */
  readonly from: string
  readonly signData: typeof signData
  readonly verifyData: typeof verifyData
}

/**
 * Reads or makes the keys. Loaded when the plugin starts: the curves take a daemon without TDX and
 * Nitro, which never gets here, a tenth of its start.
 *
 * @throws {Error} When the key file or the seed cannot be used.
 */
export async function createAgent(options: AgentOptions): Promise<Agent> {
  const { config, attestation, appIdentity, stateDir, madeKeys } = options
  const { key_file, permitted_keys, cached_keys, evidence_form } = config
  const source = key_file ? await readKeyFile(key_file.file) : await localKeys(stateDir, madeKeys)
  return {
    keyring: new Keyring(source, permitted_keys, cached_keys),
    issuer: new Issuer(attestation, appIdentity, evidence_form, source.authority),
    from: source.from,
    signData,
    verifyData,
  }
}
