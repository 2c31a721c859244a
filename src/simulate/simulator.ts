import { join } from 'node:path'
import type { Transport } from '../device/transport.ts'
import { writeFileAtomic } from '../files/atomic-file.ts'
import { makeFolder } from '../files/make-folder.ts'
import { certificatePem } from '../x509/issue.ts'
import { keepIdentities } from './keep.ts'
import { type Fault, SimulatedTransport } from './machine.ts'
import { nitroMachine } from './nitro-machine.ts'
import { createNitroRoot, NITRO_SUBJECTS } from './nitro-pki.ts'
import { NsmEngine } from './nsm-engine.ts'
import { createCollateral, type TdxCollateral } from './tdx-collateral.ts'
import { tdxMachine } from './tdx-machine.ts'
import { createTdxPki, TDX_SUBJECTS } from './tdx-pki.ts'
import { createQuotingEnclave } from './tdx-quote.ts'
import type { TrustDomainOptions } from './trust-domain.ts'

/** How a machine is simulated. */
export interface SimulatorOptions extends TrustDomainOptions {
  readonly platform: 'tdx' | 'nitro'
  /**
   * Where keys and trust are kept, in the folder `simulate`; without it everything is made anew
   * and stays in memory.
   */
  readonly stateDir?: string | undefined
  /** Unix milliseconds; default the system's clock. */
  readonly now?: (() => number) | undefined
  /** For tests: what goes wrong. */
  readonly fault?: Fault | undefined
}

/** A machine that is not there, and what a verifier needs to believe it all the same. */
export interface Simulator {
  readonly transport: Transport
  readonly trust: SimulatorTrust
}

/** For `cvmd verify --root` and `--collateral`; the root is DER. */
export type SimulatorTrust =
  | { readonly platform: 'tdx'; readonly root: Uint8Array; readonly collateral: TdxCollateral }
  | { readonly platform: 'nitro'; readonly root: Uint8Array }

/**
 * A development device for `--simulate`. With a state directory it keeps its keys there and
 * writes what a verifier needs beside them: `tdx-root.pem` and `tdx-collateral.json` (valid for
 * 30 days, new at each start), or `nitro-root.pem`.
 *
 * @throws {Error} When the state directory cannot be used.
 */
export function createSimulator(options: SimulatorOptions): Promise<Simulator> {
  return options.platform === 'tdx' ? simulateTdx(options) : simulateNitro(options)
}

async function simulateTdx(options: SimulatorOptions): Promise<Simulator> {
  const { now = Date.now, fault } = options
  const folder = folderOf(options)
  const at = now()
  const pki = await keepIdentities(folder, 'tdx-keys.pem', TDX_SUBJECTS, () => createTdxPki(at))
  const root = pki.root.certificate
  const collateral = createCollateral(pki, at)
  await publish(folder, 'tdx-root.pem', certificatePem(root))
  await publish(folder, 'tdx-collateral.json', `${JSON.stringify(collateral, undefined, 2)}\n`)
  const machine = tdxMachine(createQuotingEnclave(pki), options)
  const transport = new SimulatedTransport(machine, fault)
  return { transport, trust: { platform: 'tdx', root, collateral } }
}

async function simulateNitro(options: SimulatorOptions): Promise<Simulator> {
  const { now = Date.now, fault } = options
  const folder = folderOf(options)
  const create = () => ({ root: createNitroRoot(now()) })
  const { root } = await keepIdentities(folder, 'nitro-keys.pem', NITRO_SUBJECTS, create)
  await publish(folder, 'nitro-root.pem', certificatePem(root.certificate))
  const machine = nitroMachine(new NsmEngine(root, { now }))
  const transport = new SimulatedTransport(machine, fault)
  return { transport, trust: { platform: 'nitro', root: root.certificate } }
}

function folderOf({ stateDir }: SimulatorOptions): string | undefined {
  if (stateDir === undefined) return undefined
  const folder = join(stateDir, 'simulate')
  makeFolder(folder, 0o700)
  return folder
}

/** Nothing secret, but it stands beside the keys, in a folder only its owner may enter. */
async function publish(folder: string | undefined, name: string, text: string): Promise<void> {
  if (folder !== undefined) await writeFileAtomic(join(folder, name), text, 0o644)
}
