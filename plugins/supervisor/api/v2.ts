import { type Context, Hono } from 'hono'
import type { PluginEnv } from '../../../src/plugin.ts'
import { route } from '../../../src/route.ts'
import { documented } from '../../../src/validate.ts'
import { textOf, truthy } from '../host/coercions.ts'
import { type KeyHolder, opensApp } from '../keys/scopes.ts'
import type { OperationOptions, ServiceId } from '../supervisor.ts'
import { failed, json, jsonText, text } from './answers.ts'
import { appIdIn, namedService } from './app-of.ts'
import { type Body, readBody } from './body.ts'
import { KeptAnswers } from './kept-answers.ts'
import { type ApiParts, deviceName, keyed, type OpenHandler } from './parts.ts'
import {
  AppParam,
  CleanupQuery,
  ContainerQuery,
  ForceBody,
  JournalBody,
  KeyQuery,
  REFUSALS,
  ServiceBody,
  TagsBody,
} from './schemas.ts'
import { applicationsView, applicationView, containerIds, statusView } from './views.ts'

/** The routes of version 2 beside those of local mode (spec §5). */
export function v2Routes(parts: ApiParts) {
  const { access, host } = parts
  const applications = new KeptAnswers()
  const status = new KeptAnswers()
  const key = documented('query', KeyQuery)
  const param = documented('param', AppParam)
  const described = (summary: string) => route({ summary, long: true, answers: REFUSALS })

  const appWork = (work: (appId: number, options: OperationOptions) => Promise<void>) =>
    keyed(parts, async (c, holder) => {
      const body = await readBody(c)
      const appId = appIdIn(c)
      if (!appId) return failed(400, 'APP_ID_INVALID', 'Missing app id')
      access.assertApp(holder, appId)
      await work(appId, { force: truthy(body.force) })
      return text('OK')
    })

  const serviceWork = (
    work: (service: ServiceId, options: OperationOptions) => Promise<unknown>,
  ): OpenHandler =>
    keyed(parts, async (c, holder) => {
      const body = await readBody(c)
      const appId = appIdIn(c)
      if (!appId) return failed(400, 'APP_ID_INVALID', 'Invalid app id')
      access.assertApp(holder, appId)
      await work(namedService(parts.supervisor, appId, body), { force: truthy(body.force) })
      return text('OK')
    })

  const cleanup = async (c: Context<PluginEnv>, holder: KeyHolder, body: Body) => {
    access.assertMay(holder, 'volumes:clean')
    const dryRun = truthy(c.req.query('dryRun')) || truthy(body.dryRun)
    const apps = (appId: number) => opensApp(holder, appId)
    const volumes = await parts.supervisor.cleanupVolumes({ dryRun, apps })
    return json({ status: 'success', volumes })
  }

  return new Hono<PluginEnv>()
    .get(
      '/v2/applications/state',
      described('The apps of the target and how far they are'),
      key,
      keyed(parts, (_c, holder) => {
        const stamp = String(parts.supervisor.revision)
        const make = () => applicationsView(parts.supervisor, holder)
        return jsonText(applications.of(holder, stamp, make))
      }),
    )
    .get(
      '/v2/applications/:appId/state',
      described('One app and how far it is'),
      param,
      key,
      keyed(parts, (c, holder) => {
        const given = c.req.param('appId') ?? ''
        const appId = appIdIn(c)
        if (!appId) {
          const shown = given.slice(0, 64)
          return failed(400, 'APP_ID_INVALID', `Invalid application ID: ${shown}`)
        }
        // Who may not see it learns nothing about it.
        const app = opensApp(holder, appId) ? parts.supervisor.app(appId) : undefined
        if (!app) {
          return failed(409, 'APP_NOT_FOUND', `Application ID does not exist: ${appId}`)
        }
        return json(applicationView(app))
      }),
    )
    .post(
      '/v2/applications/:appId/restart',
      described('Create the containers of an app anew'),
      param,
      key,
      documented('json', ForceBody),
      appWork((appId, options) => parts.supervisor.restartApp(appId, options)),
    )
    .post(
      '/v2/applications/:appId/purge',
      described('Empty the volumes of an app and create its containers anew'),
      param,
      key,
      documented('json', ForceBody),
      appWork((appId, options) => parts.supervisor.purgeApp(appId, options)),
    )
    .post(
      '/v2/applications/:appId/restart-service',
      described('Create the container of a service anew'),
      param,
      key,
      documented('json', ServiceBody),
      serviceWork((service, options) => parts.supervisor.restartService(service, options)),
    )
    .post(
      '/v2/applications/:appId/stop-service',
      described('Stop a service; it stays so until it is started'),
      param,
      key,
      documented('json', ServiceBody),
      serviceWork((service, options) => parts.supervisor.stopService(service, options)),
    )
    .post(
      '/v2/applications/:appId/start-service',
      described('Start a service'),
      param,
      key,
      documented('json', ServiceBody),
      serviceWork((service, options) => parts.supervisor.startService(service, options)),
    )
    .get(
      '/v2/state/status',
      described('Containers and images'),
      key,
      keyed(parts, (_c, holder) => {
        const stamp = String(parts.supervisor.revision)
        return jsonText(status.of(holder, stamp, () => statusView(parts.supervisor, holder)))
      }),
    )
    .get(
      '/v2/containerId',
      described('Ids of containers, or of one by its service'),
      documented('query', ContainerQuery),
      keyed(parts, (c, holder) => {
        const name = textOf(c.req.query('service')) ?? textOf(c.req.query('serviceName'))
        const ids = containerIds(parts.supervisor, holder)
        if (name === undefined) {
          return json({ status: 'success', services: Object.fromEntries(ids) })
        }
        const containerId = ids.get(name)
        if (containerId !== undefined) return json({ status: 'success', containerId })
        return failed(404, 'CONTAINER_NOT_FOUND', 'Could not find service with that name')
      }),
    )
    .get(
      '/v2/version',
      described('Version of the API'),
      key,
      keyed(parts, (_c, holder) => {
        access.assertMay(holder, 'device:read')
        return json({ status: 'success', version: parts.version })
      }),
    )
    .get(
      '/v2/device/name',
      described('Name of the device'),
      key,
      keyed(parts, (_c, holder) => {
        access.assertMay(holder, 'device:read')
        return json({ status: 'success', deviceName: deviceName(parts) })
      }),
    )
    .get(
      '/v2/device/tags',
      described('Tags of the device'),
      key,
      keyed(parts, (_c, holder) => {
        access.assertMay(holder, 'device:read')
        return json({ status: 'success', tags: host.tags.list() })
      }),
    )
    .patch(
      '/v2/device/tags',
      described('Set tags of the device; others stay'),
      key,
      documented('json', TagsBody),
      keyed(parts, async (c, holder) => {
        access.assertMay(holder, 'device:tags')
        await host.tags.patch(await readBody(c))
        return json({ status: 'success' }, 202)
      }),
    )
    .get(
      '/v2/device/vpn',
      described('Whether the VPN is there'),
      key,
      keyed(parts, async (_c, holder) => {
        access.assertMay(holder, 'device:read')
        return json({ status: 'success', vpn: await host.vpn() })
      }),
    )
    .get(
      '/v2/cleanup-volumes',
      route({
        summary: 'Remove our volumes that nothing uses',
        long: true,
        sideEffect: true,
        answers: REFUSALS,
      }),
      documented('query', CleanupQuery),
      keyed(parts, (c, holder) => cleanup(c, holder, {})),
    )
    .post(
      '/v2/cleanup-volumes',
      described('The same, for clients that do not change things with GET'),
      documented('query', CleanupQuery),
      keyed(parts, async (c, holder) => cleanup(c, holder, await readBody(c))),
    )
    .post(
      '/v2/journal-logs',
      described('The journal of the machine, as journalctl prints it'),
      key,
      documented('json', JournalBody),
      keyed(parts, async (c, holder) => {
        access.assertMay(holder, 'logs')
        const { body } = await host.journal.read(await readBody(c))
        return new Response(body as ReadableStream<Uint8Array<ArrayBuffer>>)
      }),
    )
}
