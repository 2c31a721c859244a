import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Hono } from 'hono'
import * as v from 'valibot'
import { countRequests, type RequestCounts } from '../../plugins/kms/admin/counts.ts'
import { type AdminParts, adminRoutes } from '../../plugins/kms/admin/routes.ts'
import type { KmsStatus } from '../../plugins/kms/admin/status.ts'
import { createMaterial, randomRootKeys } from '../../plugins/kms/server/root-material.ts'
import { createRootKeys } from '../../plugins/kms/server/root-store.ts'
import {
  addRootVersion,
  adoptRootVersions,
  openRoots,
  type Roots,
  useRootVersion,
} from '../../plugins/kms/server/roots.ts'
import { type AnyPlugin, definePlugin, type PluginEnv } from '../../src/plugin.ts'

/** A KMS with root keys in a folder and no listener, behind the routes for operators. */
export interface AdminKms {
  readonly plugin: AnyPlugin
  readonly counts: RequestCounts
  readonly folder: string
  /** What `sync` gets from the other KMS; throws where it gives nothing. */
  source: (url: string, signal: AbortSignal) => Promise<Roots>
  roots(): Roots | undefined
  remove(): void
}

/** @param parts In place of what changes the folder. */
export async function adminKms(
  { bootstrapped = true }: { readonly bootstrapped?: boolean } = {},
  parts: Partial<AdminParts> = {},
): Promise<AdminKms> {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-test-'))
  const material = createMaterial(randomRootKeys(), 'kms.example', undefined)
  if (bootstrapped) await createRootKeys(folder, material)
  let roots = await openRoots(folder)
  const counts = countRequests({ inc: () => undefined })
  const status = (): KmsStatus => ({
    mode: roots ? 'serving' : 'onboarding',
    reason: roots ? undefined : 'it has no root keys yet',
    address: '127.0.0.1:12001',
    roots,
    requests: counts.read(),
  })
  const kms: AdminKms = {
    counts,
    folder,
    source: async () => {
      throw new Error('there is no other KMS')
    },
    roots: () => roots,
    remove: () => rmSync(folder, { recursive: true, force: true }),
    plugin: definePlugin({
      name: 'kms',
      summary: 'Stands in for a KMS',
      config: v.strictObject({}),
      exposure: 'local',
      setup: ({ events }) => ({
        routes: adminRoutes(new Hono<PluginEnv>(), {
          status,
          events,
          rotate: async (prepare) => {
            const version = await addRootVersion(folder)
            if (!prepare) await useRootVersion(folder, version)
            roots = await openRoots(folder)
            return version
          },
          use: async (version) => {
            await useRootVersion(folder, version)
            roots = await openRoots(folder)
          },
          sync: async (url, signal) => {
            const other = await kms.source(url, signal)
            const keys = other.versions.map((version) => other.of(version))
            const added = await adoptRootVersions(
              folder,
              keys.filter((found) => found !== undefined),
            )
            roots = await openRoots(folder)
            return added
          },
          ...parts,
        }),
      }),
    }),
  }
  return kms
}
