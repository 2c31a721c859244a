// A process that serves the uploads plugin: `uploads-server.ts FOLDER FILES-AS-JSON`. Prints its port.

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { createConsola } from 'consola/basic'
import * as v from 'valibot'
import uploads from '../../plugins/uploads/index.ts'
import { NO_ATTESTER } from '../../src/attester/none.ts'
import { OPEN } from '../../src/auth/guard.ts'
import { DEFAULT_LIMITS, EventLog } from '../../src/events/log.ts'
import { NO_GPUS } from '../../src/gpu/none.ts'
import { buildPipeline } from '../../src/http/pipeline.ts'
import { Metrics } from '../../src/metrics.ts'
import { routesOf } from '../../src/registry.ts'
import { serveHttp } from '../../src/runtime.ts'
import { setUp } from '../../src/setup.ts'

const [folder = '.', files = '{}'] = process.argv.slice(2)
const eventLog = new EventLog(DEFAULT_LIMITS)
const loaded = setUp(
  uploads,
  v.parse(uploads.config, { files: JSON.parse(files) }),
  {
    eventLog,
    attestation: NO_ATTESTER,
    gpus: NO_GPUS,
    daemon: { plugins: () => [] },
    metrics: new Metrics(),
    log: createConsola({ level: -999 }),
    stateDir: join(folder, 'state'),
    device: { has: () => true, path: (path: string) => path },
  },
  {},
)
const app = buildPipeline(routesOf(loaded), {
  guard: OPEN,
  maxBodyBytes: 1024,
  requestTimeoutMs: 30_000,
})
app.get('/events', (c) => c.json(eventLog.after(0).map(({ message }) => message)))
mkdirSync(loaded.stateDir, { recursive: true, mode: 0o700 })
await loaded.instance.start?.()
loaded.unavailable = undefined
const listener = await serveHttp(
  '127.0.0.1:0',
  { host: '127.0.0.1', port: 0 },
  {
    maxHeadBytes: 65_536,
    headTimeoutMs: 3000,
    idleTimeoutMs: 60_000,
    maxConnections: 100,
    maxConnectionsPerPeer: 100,
  },
  (request, exchange) => app.fetch(request, exchange),
)
process.stdout.write(`${listener.port}\n`)
