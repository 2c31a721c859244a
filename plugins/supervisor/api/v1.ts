import { Hono } from 'hono'
import { ApiError } from '../../../src/errors.ts'
import type { PluginEnv } from '../../../src/plugin.ts'
import { route } from '../../../src/route.ts'
import { documented } from '../../../src/validate.ts'
import { truthy, wholeNumber } from '../host/coercions.ts'
import { parseHostConfig } from '../host/host-config-input.ts'
import type { PowerAction } from '../host/power.ts'
import { done, empty, json, jsonText, text } from './answers.ts'
import { appIdIn, onlyService } from './app-of.ts'
import { readBody } from './body.ts'
import { KeptAnswers } from './kept-answers.ts'
import { type ApiParts, type KeyedHandler, keyed, type OpenHandler } from './parts.ts'
import { powerDown } from './power-down.ts'
import {
  AppBody,
  AppParam,
  ForceBody,
  HostConfigBody,
  KeyQuery,
  REFUSALS,
  UpdateBody,
} from './schemas.ts'
import { appView, deviceView } from './views.ts'

/** The routes of version 1 (spec §4). */
export function v1Routes(parts: ApiParts) {
  const { access, host, events } = parts
  const kept = new KeptAnswers()
  const key = documented('query', KeyQuery)
  const described = (summary: string) => route({ summary, long: true, answers: REFUSALS })

  const power = (action: PowerAction): OpenHandler =>
    keyed(parts, async (c, holder) => {
      access.assertMay(holder, 'device:power')
      const { force } = await readBody(c)
      await powerDown(parts, action, truthy(force))
      return json({ Data: 'OK', Error: '' }, 202)
    })

  const device: KeyedHandler = async (_c, holder) => {
    access.assertMay(holder, 'device:read')
    const addresses = await host.addresses.get()
    const stamp = `${parts.supervisor.revision} ${addresses.ip} ${addresses.mac}`
    const kind = await host.info()
    const { port, version } = parts
    const facts = { port, version, osVersion: kind.osVersion, addresses }
    return jsonText(kept.of(holder, stamp, () => deviceView(parts.supervisor, facts, holder)))
  }

  const startOrStop = (action: 'start' | 'stop'): OpenHandler =>
    keyed(parts, async (c, holder) => {
      const body = await readBody(c)
      const appId = appIdIn(c)
      if (appId === undefined) return text('Invalid app id', 400)
      access.assertApp(holder, appId)
      const service = onlyService(parts.supervisor, appId)
      const options = { force: truthy(body.force) }
      const containerId =
        action === 'stop'
          ? await parts.supervisor.stopService(service, options)
          : await parts.supervisor.startService(service, options)
      return json({ containerId })
    })

  return new Hono<PluginEnv>()
    .get('/ping', route({ summary: 'Whether the API answers; needs no key' }), () => text('OK'))
    .get('/v1/healthy', route({ summary: 'Whether the supervisor works; needs no key' }), () =>
      parts.supervisor.health().healthy ? empty(200) : text('Unhealthy', 500),
    )
    .post(
      '/v1/blink',
      described('Blink the light of the device for 15 seconds'),
      key,
      keyed(parts, (_c, holder) => {
        access.assertMay(holder, 'device:blink')
        void host.led.blink()
        return empty(200)
      }),
    )
    .post(
      '/v1/regenerate-api-key',
      described('Make the own key anew; the old one ends at once'),
      key,
      keyed(parts, async (_c, { appId, service }) => {
        const fresh = await parts.keys.regenerate({ appId, service })
        const whose = service === null ? 'the device' : `service "${service}" of app ${appId}`
        events.append(`API key of ${whose} regenerated`)
        parts.supervisor.contextChanged()
        return text(fresh)
      }),
    )
    .post(
      '/v1/update',
      described('Fetch the target and apply it; waits for neither'),
      key,
      documented('json', UpdateBody),
      keyed(parts, async (c, holder) => {
        access.assertMay(holder, 'device:update')
        const { force, cancel } = await readBody(c)
        const options = { force: truthy(force), cancel: truthy(cancel) }
        const { triggered } = await parts.supervisor.update(options)
        return triggered ? empty(204) : text('Accepted', 202)
      }),
    )
    .post(
      '/v1/reboot',
      described('Reboot the machine'),
      key,
      documented('json', ForceBody),
      power('reboot'),
    )
    .post(
      '/v1/shutdown',
      described('Turn the machine off'),
      key,
      documented('json', ForceBody),
      power('shutdown'),
    )
    .post(
      '/v1/purge',
      described('Empty the volumes of an app and create its containers anew'),
      key,
      documented('json', AppBody),
      keyed(parts, async (c, holder) => {
        const body = await readBody(c)
        const appId = wholeNumber(body.appId)
        if (appId === undefined) return text('Invalid or missing appId', 400)
        access.assertApp(holder, appId)
        await parts.supervisor.purgeApp(appId, { force: truthy(body.force) })
        return done()
      }),
    )
    .post(
      '/v1/restart',
      described('Create the containers of an app anew'),
      key,
      documented('json', AppBody),
      keyed(parts, async (c, holder) => {
        const body = await readBody(c)
        const appId = wholeNumber(body.appId)
        if (appId === undefined) return text('Missing app id', 400)
        access.assertApp(holder, appId)
        await parts.supervisor.restartApp(appId, { force: truthy(body.force) })
        return text('OK')
      }),
    )
    .get('/v1/device', described('The state of the device'), key, keyed(parts, device))
    .get(
      '/v1/apps/:appId',
      described('An app with one container'),
      documented('param', AppParam),
      key,
      keyed(parts, (c, holder) => {
        const appId = appIdIn(c)
        if (appId === undefined) return text('Missing app id', 400)
        access.assertApp(holder, appId, 'Application is not available')
        const app = parts.supervisor.app(appId)
        const [service, ...others] = app?.services ?? []
        if (others.length > 0) {
          const message = 'Some v1 endpoints are only allowed on single-container apps'
          throw new ApiError(400, 'APP_NOT_SINGLE', message)
        }
        if (!app || !service?.container) throw new ApiError(400, 'APP_NOT_FOUND', 'App not found')
        return json(appView(app, service, service.container))
      }),
    )
    .post(
      '/v1/apps/:appId/stop',
      described('Stop the container of an app with one'),
      documented('param', AppParam),
      key,
      documented('json', ForceBody),
      startOrStop('stop'),
    )
    .post(
      '/v1/apps/:appId/start',
      described('Start the container of an app with one'),
      documented('param', AppParam),
      key,
      documented('json', ForceBody),
      startOrStop('start'),
    )
    .get(
      '/v1/device/host-config',
      described('Proxy and hostname of the machine'),
      key,
      keyed(parts, async (_c, holder) => {
        access.assertMay(holder, 'device:read')
        return json(await host.hostConfig.read())
      }),
    )
    .patch(
      '/v1/device/host-config',
      described('Change proxy and hostname of the machine'),
      key,
      documented('json', HostConfigBody),
      keyed(parts, async (c, holder) => {
        access.assertMay(holder, 'device:config')
        const input = parseHostConfig(await readBody(c), parts.strict)
        const force = input.force || parts.supervisor.settings().overrideLock
        const { changed, warnings } = await host.hostConfig.patch(input, (work) =>
          parts.supervisor.withLocks('all', { force }, work),
        )
        if (changed.length > 0) events.append(`host configuration changed: ${changed.join(', ')}`)
        for (const warning of warnings) events.append(warning, { level: 'warn' })
        if (changed.includes('hostname')) parts.supervisor.contextChanged()
        return text('OK')
      }),
    )
}
