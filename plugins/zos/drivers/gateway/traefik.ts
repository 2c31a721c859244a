import { access, constants, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { messageOf } from '../../../../src/errors.ts'
import { syncDirectory, writeFileAtomic } from '../../../../src/files/atomic-file.ts'
import { fileName, isWorkloadId } from '../storage/folders.ts'
import { addressText, type GatewayBackEnd, type GatewayRoute } from './route.ts'

export interface TraefikOptions {
  /** The folder that traefik's file provider watches (`providers.file.directory`). */
  readonly folder: string
  /** Certificate resolvers of traefik's static configuration; default as the reference has them. */
  readonly resolvers?: { readonly name?: string; readonly fqdn?: string } | undefined
}

/** Files that traefik reads end so; it takes JSON for the YAML that it is. */
const SUFFIX = '.yaml'

/** They hold no secrets, and traefik runs as a user of its own. */
const MODE = 0o644

/** One file per route in the form that the reference writes (zosbase `pkg/gateway/gateway.go`). */
export function createTraefikFiles({ folder, resolvers = {} }: TraefikOptions): GatewayBackEnd {
  const pathOf = (id: string) => join(folder, `${fileName(id)}${SUFFIX}`)
  return {
    name: 'traefik',

    async probe() {
      try {
        await access(folder, constants.R_OK | constants.W_OK)
        return { able: true }
      } catch (error) {
        const reason = `Cannot write routes for traefik to "${folder}": ${messageOf(error)}`
        return { able: false, reason }
      }
    },

    async set(route) {
      // Under a name that traefik does not read until it is complete.
      const draft = join(folder, `${fileName(route.id)}.draft`)
      const text = `${JSON.stringify(traefikRoute(route, resolvers), undefined, 2)}\n`
      await writeFileAtomic(draft, text, MODE)
      await rename(draft, pathOf(route.id))
      await syncDirectory(folder)
    },

    remove: (id) => rm(pathOf(id), { force: true }),

    async ids() {
      const names = (await readdir(folder)).filter((name) => name.endsWith(SUFFIX))
      return names.map((name) => name.slice(0, -SUFFIX.length)).filter(isWorkloadId)
    },

    stop: async () => undefined,
  }
}

/** A dynamic configuration with one router and one service. */
export function traefikRoute(
  { id, host, kind, tlsPassthrough, backend }: GatewayRoute,
  resolvers: NonNullable<TraefikOptions['resolvers']> = {},
): object {
  const address = addressText(backend)
  const routers = (rule: string, tls: object) => ({ [`${id}-route`]: { rule, service: id, tls } })
  const services = (server: object) => ({ [id]: { loadBalancer: { servers: [server] } } })
  if (tlsPassthrough) {
    const router = routers(`HostSNI(\`${host}\`)`, { passthrough: true })
    return { tcp: { routers: router, services: services({ address }) } }
  }
  const tls =
    kind === 'name'
      ? {
          certResolver: resolvers.name ?? 'dnsresolver',
          domains: [{ sans: [`*.${host.slice(host.indexOf('.') + 1)}`] }],
        }
      : { certResolver: resolvers.fqdn ?? 'resolver', domains: [{ main: host }] }
  const router = routers(`Host(\`${host}\`)`, tls)
  return { http: { routers: router, services: services({ url: `http://${address}` }) } }
}
