import { messageOf } from '../../../src/errors.ts'
import { writeFileAtomic } from '../../../src/files/atomic-file.ts'
import { MAX_DOCUMENT_BYTES, type RegistryDocument, readRegistryDocument } from './document.ts'
import { FileWatch } from './file-watch.ts'
import { Listeners } from './listeners.ts'
import { type Registry, RegistryError } from './registry.ts'

export interface FileRegistryOptions {
  readonly path: string
  /** Time between two looks at the file, in milliseconds; default 1000. */
  readonly pollMs?: number | undefined
  /** Told why the file cannot be used, once each, and with undefined when it can again. */
  readonly report?: ((problem: string | undefined) => void) | undefined
}

export interface FileRegistry extends Registry {
  /**
   * Replaces the whole document, in the file too.
   *
   * @throws {RegistryError} `REGISTRY_INVALID`: nothing is changed.
   * @throws {Error} The system error when the file cannot be written.
   */
  replace(text: string): Promise<void>
  /** The document in force, as it was written; undefined while there is none. */
  text(): string | undefined
}

/**
 * The registry in a file (spec §11.3), read again when it changes. A document that is bad, or gone,
 * leaves the last good one in force.
 */
export function createFileRegistry(options: FileRegistryOptions): FileRegistry {
  const { path, report } = options
  const listeners = new Listeners()
  let current: RegistryDocument | undefined
  let currentText: string | undefined
  let problem = new RegistryError('REGISTRY_UNREACHABLE', `"${path}" was not read yet`)

  function adopt(document: RegistryDocument, text: string): void {
    current = document
    currentText = text
    listeners.tell()
  }

  const watch = new FileWatch({
    path,
    pollMs: options.pollMs ?? 1000,
    maxBytes: MAX_DOCUMENT_BYTES,
    take: (text) => adopt(readRegistryDocument(text), text),
    report(error) {
      if (error === undefined) return report?.(undefined)
      problem = problemWith(path, error)
      report?.(current ? `${problem.message}; the last good one stays in force` : problem.message)
    },
  })

  function document(): RegistryDocument {
    if (current === undefined) throw problem
    return current
  }

  return {
    node: async () => document().node,
    twin: async (id) => document().twins.get(id),
    contract: async (id) => document().contracts.get(id),
    farmerTwin: async () => document().farmerTwin,
    async rentContract() {
      const { rentContract, contracts } = document()
      if (rentContract === undefined) return undefined
      return contracts.get(rentContract)?.state === 'deleted' ? undefined : rentContract
    },
    async activeContracts() {
      const { contracts, node } = document()
      return [...contracts.values()]
        .filter(({ state, data }) => {
          return state !== 'deleted' && data.type === 'node' && data.nodeId === node.id
        })
        .map(({ contractId }) => contractId)
    },
    async nameContract(name) {
      for (const { contractId, state, data } of document().contracts.values()) {
        if (state !== 'deleted' && data.type === 'name' && data.name === name) return contractId
      }
      return undefined
    },
    refresh: () => watch.look(),
    adminTwins: () => current?.adminTwins ?? [],
    onChange: listeners.add,
    start: () => watch.start(),
    stop: () => watch.stop(),
    notReady: () => (current ? undefined : problem.message),
    text: () => currentText,
    async replace(text) {
      const next = readNew(text)
      await watch.between(async () => {
        await writeFileAtomic(path, text)
        watch.taken(text)
        adopt(next, text)
      })
    },
  }
}

function readNew(text: string): RegistryDocument {
  const bytes = Buffer.byteLength(text)
  if (bytes > MAX_DOCUMENT_BYTES) {
    throw new RegistryError(
      'REGISTRY_INVALID',
      `Cannot take registry: it has ${bytes} bytes, at most ${MAX_DOCUMENT_BYTES} are taken`,
    )
  }
  try {
    return readRegistryDocument(text)
  } catch (cause) {
    if (!(cause instanceof RegistryError)) throw cause
    throw new RegistryError(cause.code, `Cannot take registry: ${cause.message}`, { cause })
  }
}

function problemWith(path: string, error: unknown): RegistryError {
  if (error instanceof RegistryError) {
    return new RegistryError(error.code, `Cannot use registry "${path}": ${error.message}`, {
      cause: error,
    })
  }
  return new RegistryError(
    'REGISTRY_UNREACHABLE',
    `Cannot read registry: ${messageOf(error)}; write the document there or PUT it to /zos-registry`,
    { cause: error },
  )
}
