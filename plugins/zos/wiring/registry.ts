import { join } from 'node:path'
import type { Config } from '../config.ts'
import type { RegistryDocument } from '../http/routes.ts'
import type { Registry } from '../registry/registry.ts'

export interface RegistryParts {
  readonly config: Config
  readonly stateDir: string
  /** Told why it cannot be used, once each, and with undefined when it can again. */
  readonly report: (problem: string | undefined) => void
}

/** Where the document is that a daemon without chain has. */
export function documentPath({ config, stateDir }: Pick<RegistryParts, 'config' | 'stateDir'>) {
  return config.registry ?? join(stateDir, 'registry.json')
}

/** The registry that is configured: the chain, or a document that the operator may replace. */
export async function openRegistry(
  parts: RegistryParts,
): Promise<{ readonly registry: Registry; readonly document: RegistryDocument | undefined }> {
  const { config, report } = parts
  if (config.chain_url) {
    const { createChainRegistry } = await import('../registry/chain-registry.ts')
    const registry = createChainRegistry({
      urls: config.chain_url.map((url) => new URL(url)),
      nodeId: config.node_id,
      adminTwins: config.admin_twins,
      report,
    })
    return { registry, document: undefined }
  }
  const path = documentPath(parts)
  const { createFileRegistry } = await import('../registry/file-registry.ts')
  const registry = createFileRegistry({ path, report })
  return {
    registry: {
      ...registry,
      adminTwins: () => [...new Set([...registry.adminTwins(), ...config.admin_twins])],
    },
    document: {
      read: async () => {
        // A file that was just written counts, one that cannot be used does not.
        await registry.refresh?.()
        return registry.text()
      },
      problem: () => registry.notReady(),
      replace: (text) => registry.replace(text),
    },
  }
}
