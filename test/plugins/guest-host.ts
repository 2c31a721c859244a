import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import guest from '../../plugins/guest/index.ts'
import { type EventLogEntry, parseEventLog } from '../../src/attest/event-log.ts'
import { verifyDocument } from '../../src/attest/nitro/verify.ts'
import { compareRegisters } from '../../src/attest/replay.ts'
import { parseCollateral } from '../../src/attest/tdx/collateral.ts'
import type { Quote } from '../../src/attest/tdx/quote.ts'
import { verifyQuote } from '../../src/attest/tdx/verify.ts'
import { reasonOf } from '../../src/attest/verdict.ts'
import { prpcListenerError } from '../../src/compat/prpc.ts'
import type { SimulatorTrust } from '../../src/simulate/simulator.ts'
import { hostPlugin, type PluginHost } from '../helpers/plugin-host.ts'
import {
  type SimulatedMachine,
  type SimulatedOptions,
  simulatedMachine,
} from '../helpers/simulated-machine.ts'

/** Members of any of the plugin's answers. */
export type Answer = Readonly<Record<string, string>>

/** The plugin on a simulated machine. */
export interface GuestHost extends PluginHost {
  readonly machine: SimulatedMachine
  /** Status and JSON of a GET, or of a POST when there is a body. */
  json(path: string, body?: unknown): Promise<readonly [status: number, answer: Answer]>
}

const clearUps: (() => Promise<void> | void)[] = []

/** To be called after the tests of a file. */
export async function clearUp(): Promise<void> {
  for (const work of clearUps.splice(0)) await work()
}

/** Sets the plugin up and starts it. */
export async function guestOn(
  platform: 'tdx' | 'nitro',
  config: unknown = {},
  options: SimulatedOptions & { readonly machine?: SimulatedMachine } = {},
): Promise<GuestHost> {
  const machine = options.machine ?? (await simulatedMachine(platform, options))
  const host = hostPlugin(guest, config, {
    services: { attestation: machine.attester },
    renderError: prpcListenerError,
  })
  clearUps.push(() => host.stop())
  await host.start()
  // The quote that the plugin makes for itself at its start, so that tests count their own.
  if (!options.machine) await machine.attester.tdx?.quote(new Uint8Array(64))
  const json = async (path: string, body?: unknown) => {
    const text = typeof body === 'string' ? body : JSON.stringify(body)
    const init = body === undefined ? {} : { method: 'POST', body: text }
    const answer = await host.request(path, init)
    return [answer.status, (await answer.json()) as Answer] as const
  }
  return { ...host, machine, json }
}

/** A folder with files in it, gone after the tests. */
export function filesWith(files: Readonly<Record<string, string | Uint8Array>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-test-'))
  clearUps.push(() => rmSync(folder, { recursive: true, force: true }))
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content)
  return folder
}

/** Reads a quote that has to convince a verifier who trusts the simulator. */
export function accepted(quote: Uint8Array, trust: SimulatorTrust): Quote {
  if (trust.platform !== 'tdx') throw new TypeError('this is no TDX machine')
  const collateral = parseCollateral(JSON.stringify(trust.collateral))
  const verdict = verifyQuote(quote, { root: trust.root, collateral })
  if (verdict.accepted && verdict.claims) return verdict.claims.quote
  throw new Error(reasonOf(verdict)?.detail)
}

/** The same of a document: what it was made over. */
export function acceptedDocument(document: Uint8Array, trust: SimulatorTrust): Uint8Array {
  const verdict = verifyDocument(document, { root: trust.root })
  if (verdict.accepted && verdict.claims) return verdict.claims.userData ?? new Uint8Array()
  throw new Error(reasonOf(verdict)?.detail)
}

/** Whether a log replays to all registers of a quote. */
export function replays(log: string | readonly EventLogEntry[], quote: Quote): boolean {
  const entries = typeof log === 'string' ? parseEventLog(log) : log
  return compareRegisters(entries, quote.rtmr, [0, 1, 2, 3]).every(({ state }) => state === 'match')
}

export const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
export const bytesOf = (hex = ''): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'))
