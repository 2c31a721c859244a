import { KmsError } from '../client/connection.ts'
import { KmsMember, type KmsMemberOptions, type KmsWork } from './kms-member.ts'
import { isOfTheRequest, kmsProblem } from './kms-problem.ts'

/** Several KMS with the same root keys, any of which does. */
export interface KmsCluster {
  /**
   * Does something with the first KMS, in the order of their URLs, with which it can be done: one
   * that is away, slow or refuses makes the next be asked. One that failed lately comes last.
   *
   * @param work Throws {@link KmsError} to have the next asked, anything else to end it.
   * @param signal Ends the waiting; the connection that is being made is for others, too.
   * @throws {ApiError} As `kmsProblem`, when none is left.
   */
  use<T>(work: KmsWork<T>, signal?: AbortSignal): Promise<T>
  /** Ends everything. */
  close(): void
}

/** How the KMS are reached. */
export interface KmsClusterOptions extends Pick<KmsMemberOptions, 'connect'> {
  /** At least one. */
  readonly urls: readonly string[]
  /** Told why a KMS was passed over, once until it says something else. */
  readonly onPassedOver: (why: string) => void
  /** How long a connection that nobody uses is kept. Default: a minute. */
  readonly idleMs?: number
}

const IDLE_MS = 60_000

/** How long a KMS that failed is asked last, so that requests do not wait for it first. */
const FAILING_MS = 30_000

/** Nothing is connected to before it is used. */
export function kmsCluster(options: KmsClusterOptions): KmsCluster {
  const { urls, connect, onPassedOver, idleMs = IDLE_MS } = options
  const members = urls.map((url) => new KmsMember({ url, connect, idleMs }))
  const told = new Map<KmsMember, string>()

  function passedOver(failures: ReadonlyMap<KmsMember, KmsError>): void {
    for (const [member, { message }] of failures) {
      if (told.get(member) !== message) onPassedOver(message)
      told.set(member, message)
    }
  }

  return {
    async use(work, signal) {
      const failing = new Map(members.map((member) => [member, member.failedWithin(FAILING_MS)]))
      const order = members.toSorted((a, b) => Number(failing.get(a)) - Number(failing.get(b)))
      const failures = new Map<KmsMember, KmsError>()
      for (const member of order) {
        try {
          const result = await member.use(work, signal)
          told.delete(member)
          passedOver(failures)
          return result
        } catch (error) {
          if (!(error instanceof KmsError)) throw error
          failures.set(member, error)
          if (error.code === 'KMS_ABORTED' || isOfTheRequest(error)) break
        }
      }
      throw kmsProblem([...failures.values()])
    },
    close() {
      for (const member of members) member.close()
    },
  }
}
