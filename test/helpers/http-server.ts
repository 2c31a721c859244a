import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createConsola } from 'consola/basic'
import * as v from 'valibot'
import { NO_ATTESTER } from '../../src/attester/none.ts'
import { createAudit } from '../../src/auth/audit.ts'
import { type KnownCertificate, recogniseCertificates } from '../../src/auth/certificates.ts'
import { KeyStore } from '../../src/auth/keys.ts'
import { type KnownPeer, recognisePeers } from '../../src/auth/peers.ts'
import { Throttle } from '../../src/auth/throttle.ts'
import type { ListenerConfig } from '../../src/config/resolve.ts'
import { Listen } from '../../src/config/schema.ts'
import { EventLog } from '../../src/events/log.ts'
import { NO_GPUS } from '../../src/gpu/none.ts'
import { type Listener, openListener } from '../../src/http/listen.ts'
import { mount } from '../../src/http/mount.ts'
import { Metrics } from '../../src/metrics.ts'
import type { AnyPlugin, Services } from '../../src/plugin.ts'
import type { TlsPair } from '../../src/runtime.ts'
import { setUp } from '../../src/setup.ts'
import type { RawTarget } from './raw-http.ts'

/** Plugins served by the real listeners and pipeline in the test's own process. */
export interface TestServer {
  readonly listener: Listener
  readonly target: RawTarget
  /** Requests that reached a handler, as the pipeline saw their paths: `GET /p/x`. */
  readonly keys: KeyStore
  stop(deadlineMs?: number): Promise<void>
}

/** Opens one listener, on TCP unless `unix` is true, with keys of its `[[listen]]` table. */
export async function serveTest(
  plugins: readonly AnyPlugin[],
  listen: Partial<v.InferInput<typeof Listen>> = {},
  options: {
    readonly unix?: boolean
    readonly tls?: TlsPair
    readonly services?: Partial<Services>
    readonly certificates?: readonly KnownCertificate[]
    readonly peers?: readonly KnownPeer[]
  } = {},
): Promise<TestServer> {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-test-'))
  const where = options.unix ? { unix: join(folder, 't.sock') } : { address: '127.0.0.1:0' }
  const parsed = v.parse(Listen, { ...where, ...listen })
  const name = where.unix ? `unix:${where.unix}` : (where.address ?? '')
  const config: ListenerConfig = { ...parsed, name, mounted: plugins.map((plugin) => plugin.name) }
  const log = createConsola({ level: -999 })
  const metrics = new Metrics()
  const eventLog = new EventLog()
  const machine = { has: () => true, path: (path: string) => path }
  const core = {
    eventLog,
    attestation: NO_ATTESTER,
    gpus: NO_GPUS,
    daemon: { plugins: () => [] },
    metrics,
    log,
    stateDir: folder,
    device: machine,
  }
  const loaded = plugins.map((plugin) =>
    setUp(plugin, v.parse(plugin.config, {}), core, options.services ?? {}),
  )
  for (const one of loaded) {
    mkdirSync(one.stateDir, { recursive: true, mode: 0o700 })
    await one.instance.start?.()
    one.unavailable = undefined
  }
  const keys = new KeyStore(join(folder, 'keys.json'))
  const mounted = mount(config, loaded, {
    metrics,
    log,
    audit: createAudit(eventLog.sink('cvmd')),
    throttle: new Throttle(),
    keys,
    passwords: undefined,
    certificates: recogniseCertificates(options.certificates ?? []),
    peers: recognisePeers(options.peers ?? []),
    realm: 'cvmd',
    requestLines: false,
  })
  const listener = await openListener(config, options.tls, mounted.handle)
  return {
    listener,
    target: where.unix ? { unix: where.unix } : { port: listener.port },
    keys,
    stop: async (deadlineMs = 100) => {
      await listener.close(deadlineMs)
      for (const one of loaded) {
        one.abort.abort()
        await one.instance.stop?.()
      }
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
