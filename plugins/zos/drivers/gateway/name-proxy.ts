import type { DataOf } from '../../model.ts'
import { type Crash, type Driver, DriverError, type Task } from '../driver.ts'
import { askRegistry } from '../registry-question.ts'
import { gatewayHealth, type Publisher, publish, sweepRoutes, withdraw } from './publish.ts'
import { hostKey } from './route.ts'

type Type = 'gateway-name-proxy'

export interface NameProxyOptions extends Publisher {
  /** The node's domain, to which all names below it lead; '' or undefined when it has none. */
  readonly domain: () => string | undefined
  /** How often the name contracts are looked at again; default one hour, as the reference does. */
  readonly checkMs?: number
}

const HOUR_MS = 3_600_000

/** Publishes `<name>.<domain of the node>` (spec zos §4.5); the name has to be the twin's by contract. */
export function createGatewayNameDriver(options: NameProxyOptions): Driver<Type> {
  const { domain, checkMs = HOUR_MS, backEnd } = options
  const live = new Map<string, Task<Type>>()
  const hostOf = (data: object) => {
    const { name } = data as DataOf[Type]
    return hostKey(`${name}.${domain() ?? ''}`)
  }
  return {
    type: 'gateway-name-proxy',
    name: backEnd.name,

    async probe(signal) {
      if (domain()) return backEnd.probe(signal)
      const reason = "node doesn't support name proxy (doesn't have a domain)"
      return { able: false, reason }
    },

    async provision(task) {
      const { name } = task.workload.data
      const below = domain()
      if (!below) fail("node doesn't support name proxy (doesn't have a domain)")
      if (!(await askRegistry(task, () => task.ownsName(name), true))) {
        fail(`failed to verify name contract: ${NOT_RESERVED}`)
      }
      const fqdn = `${name}.${below}`
      await publish(options, task, { host: hostKey(fqdn), kind: 'name' }, hostOf)
      live.set(task.id, task)
      return { fqdn }
    },

    async deprovision(task) {
      live.delete(task.id)
      await withdraw(options, task.id)
    },

    health: (task) => gatewayHealth(options, task),

    /** A name that is given up, or goes to another twin, must not lead to the old one for ever. */
    watch(crashed: (crash: Crash) => void, signal: AbortSignal): Promise<void> {
      return new Promise((resolve) => {
        if (signal.aborted) return resolve()
        const timer = setInterval(async () => {
          for (const id of await lost(live)) {
            if (!live.delete(id)) continue
            await withdraw(options, id).catch(() => undefined)
            crashed({ id, reason: NOT_RESERVED })
          }
        }, checkMs)
        signal.addEventListener(
          'abort',
          () => {
            clearInterval(timer)
            resolve()
          },
          { once: true },
        )
      })
    },

    sweep: (wanted) => sweepRoutes(options, wanted),
    stop: () => backEnd.stop(),
  }
}

const NOT_RESERVED = 'a name contract with the given name must be reserved first'

function fail(why: string): never {
  throw new DriverError('failed', `failed to setup name proxy: ${why}`)
}

/** Ids of those whose twin does not have the name any more. */
async function lost(live: ReadonlyMap<string, Task<Type>>): Promise<string[]> {
  const ids: string[] = []
  for (const [id, { workload, ownsName }] of [...live]) {
    // A registry that cannot be asked takes nothing away.
    if (!(await ownsName(workload.data.name).catch(() => true))) ids.push(id)
  }
  return ids
}
