import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { BootInfo } from '../../plugins/kms/policy/boot-info.ts'
import type { Decision, Policy } from '../../plugins/kms/policy/policy.ts'
import { createFile } from '../../plugins/kms/server/create-file.ts'
import type { StoreSteps } from '../../plugins/kms/server/root-store.ts'

export function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-test-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** A policy that answers the same about each KMS, and remembers what it was asked. */
export function kmsPolicy(decision: Decision | Error): Policy & { readonly asked: BootInfo[] } {
  const asked: BootInfo[] = []
  return {
    asked,
    app: () => assert.fail('no application asks'),
    kms: async (info) => {
      asked.push(info)
      if (decision instanceof Error) throw decision
      return decision
    },
    describe: async () => {
      if (decision instanceof Error) throw decision
      return {
        isDev: false,
        kmsContractAddress: `0x${'ab'.repeat(20)}`,
        ethRpcUrl: 'https://rpc.example',
      }
    },
  }
}

export const FINE: Decision = { allowed: true, gatewayAppId: '' }

/** What `work` is refused with: status, code, message. */
export async function refusalOf(work: Promise<unknown>): Promise<readonly unknown[]> {
  try {
    await work
  } catch (error) {
    const { name, status, code, message } = error as Error & Record<string, unknown>
    assert.equal(name, 'ApiError', String(error))
    return [status, code, message]
  }
  return assert.fail('it was answered')
}

/**
 * Steps of which one fails, before or after it was done, as when the power goes.
 *
 * @param at Which one, from 0 on.
 */
export function failingSteps(at: number, when: 'before' | 'after'): StoreSteps {
  let count = 0
  const step = async (work: () => Promise<void>): Promise<void> => {
    const fails = count++ === at
    if (fails && when === 'before') throw new Error('the power is gone')
    await work()
    if (fails) throw new Error('the power is gone')
  }
  return {
    create: (path, bytes, mode) => step(() => createFile(path, bytes, mode)),
    remove: (path) => step(() => rm(path, { force: true })),
  }
}
