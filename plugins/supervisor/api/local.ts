import { Hono } from 'hono'
import type { PluginEnv } from '../../../src/plugin.ts'
import { route } from '../../../src/route.ts'
import { documented } from '../../../src/validate.ts'
import { truthy } from '../host/coercions.ts'
import { type KeyHolder, opensApp } from '../keys/scopes.ts'
import { localState } from '../target/local-state.ts'
import type { Target } from '../target/model.ts'
import { json } from './answers.ts'
import { readBody } from './body.ts'
import { logLines } from './log-lines.ts'
import { type ApiParts, deviceName, keyed } from './parts.ts'
import { KeyQuery, REFUSALS, TargetBody } from './schemas.ts'
import { PRIVATE_VARIABLES } from './views.ts'

const NO_TARGET: Target = { deviceName: undefined, config: {}, apps: [] }

/** The routes of local mode (spec §6). */
export function localRoutes(parts: ApiParts) {
  const { access, host } = parts
  const key = documented('query', KeyQuery)
  const described = (summary: string) => route({ summary, long: true, answers: REFUSALS })

  return new Hono<PluginEnv>()
    .get(
      '/v2/local/target-state',
      described('The target in force, as far as the key opens it'),
      key,
      keyed(parts, (_c, holder) => {
        access.assertMay(holder, 'target:read')
        return json({ status: 'success', state: targetView(parts, holder) })
      }),
    )
    .post(
      '/v2/local/target-state',
      described('Set the target, in local mode'),
      key,
      documented('json', TargetBody),
      keyed(parts, async (c, holder) => {
        access.assertMay(holder, 'target:write')
        const body = await readBody(c)
        const { warnings } = await parts.supervisor.setTarget(body, { force: truthy(body.force) })
        const told = warnings.length > 0 ? { warnings } : {}
        return json({ status: 'success', message: 'OK', ...told })
      }),
    )
    .get(
      '/v2/local/device-info',
      described('Architecture and type of the device'),
      key,
      keyed(parts, async (_c, holder) => {
        access.assertMay(holder, 'device:read')
        const { arch, deviceType } = await host.info()
        return json({ status: 'success', info: { arch, deviceType } })
      }),
    )
    .get(
      '/v2/local/logs',
      route({
        summary: 'Follow what the services write, a JSON object per line',
        long: true,
        // Nobody would read, and so end, the stream behind a HEAD.
        head: false,
        answers: REFUSALS,
      }),
      key,
      keyed(parts, async (_c, holder) => {
        access.assertMay(holder, 'logs')
        const body = await logLines(parts.supervisor, (appId) => opensApp(holder, appId))
        return new Response(body, { headers: { 'content-type': 'application/x-ndjson' } })
      }),
    )
}

/** Without what a key does not open, and without keys (spec §24.1). */
function targetView(parts: ApiParts, holder: KeyHolder) {
  const view = parts.supervisor.target()
  const { target = NO_TARGET } = view
  const apps = target.apps.map((app) => ({
    ...app,
    services: app.services.map((service) => ({
      ...service,
      environment: masked(service.environment),
    })),
  }))
  return localState(
    { ...target, apps },
    {
      deviceName: deviceName(parts),
      sourceOf: (app) => view.sourceOf(app),
      visible: ({ appId }) => opensApp(holder, appId),
    },
  )
}

function masked(environment: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(environment).map(([name, value]) => [
      name,
      PRIVATE_VARIABLES.has(name) ? '[secret]' : value,
    ]),
  )
}
