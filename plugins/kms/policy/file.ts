import { sameBytes } from '../../../src/attest/hex.ts'
import { messageOf } from '../../../src/errors.ts'
import { type Policy, PolicyError } from './policy.ts'
import { readConfigured } from './read-file.ts'
import { factsOf, judge, parseRegistry, type Registry } from './registry.ts'
import { shared } from './shared.ts'

const MAX_BYTES = 512 * 1024

/**
 * Decides by a file of registered measurements, which is read for every request after it came: what
 * was taken out of it counts at once. It is parsed only when its bytes are others than last time; times and sizes
 * would not do, as two writes can follow each other within one tick of the file system's clock.
 */
export function filePolicy(path: string): Policy {
  let known: { readonly bytes: Uint8Array; readonly registry: Registry } | undefined
  // Five calls on a file take longer than all the rest of a request for keys.
  const current = shared(async (): Promise<Registry> => {
    const bytes = await readConfigured(path, MAX_BYTES)
    if (known && sameBytes(known.bytes, bytes)) return known.registry
    const registry = parsed(bytes, path)
    known = { bytes, registry }
    return registry
  })
  return {
    app: async (info) => judge(await current(), 'app', info),
    kms: async (info) => judge(await current(), 'kms', info),
    describe: async () => factsOf(await current()),
  }
}

function parsed(bytes: Uint8Array, path: string): Registry {
  try {
    return parseRegistry(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (error) {
    throw new PolicyError('POLICY_SETUP', `Cannot use "${path}": ${messageOf(error)}`)
  }
}
