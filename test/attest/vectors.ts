import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { TdxRegisters } from '../../src/device/devices.ts'
import { vectors } from '../helpers/vectors.ts'

/** A folder of shared vectors, or undefined after the test was told to skip. */
export function sharedVectors(t: TestContext, name: string): string | undefined {
  const folder = vectors(name)
  if (folder === undefined) t.skip(`needs the shared vectors "${name}"`)
  return folder
}

export const read = (...path: readonly string[]) => new Uint8Array(readFileSync(join(...path)))

export const readJson = (...path: readonly string[]) =>
  JSON.parse(readFileSync(join(...path), 'utf8'))

export const hex = (bytes: Uint8Array | undefined) =>
  bytes === undefined ? '' : Buffer.from(bytes).toString('hex')

export const unhex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'))

/** What `expected.json` of dstack says of a quote's registers. */
export function registersOf(quote: Record<string, string>): TdxRegisters {
  const at = (name: string) => unhex(quote[name] as string)
  return {
    mrtd: at('mr_td'),
    mrConfigId: at('mr_config_id'),
    mrOwner: at('mr_owner'),
    mrOwnerConfig: at('mr_owner_config'),
    rtmr: [at('rt_mr0'), at('rt_mr1'), at('rt_mr2'), at('rt_mr3')],
  }
}
