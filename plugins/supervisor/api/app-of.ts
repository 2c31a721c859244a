import type { Context } from 'hono'
import { ApiError } from '../../../src/errors.ts'
import { textOf, wholeNumber } from '../host/coercions.ts'
import type { ServiceId, Supervisor } from '../supervisor.ts'
import type { Body } from './body.ts'

const UNNAMED =
  'serviceName or imageId parameters were not provided or the app is multi-container. ' +
  'Use the v2 service action endpoints.'

const NOT_INSTALLED =
  'App not found: an app needs to be installed for this endpoint to work.\n' +
  'Set a target that has it and wait until it is installed.'

/** The app id in the path; undefined when it is none. */
export function appIdIn(c: Context): number | undefined {
  return wholeNumber(c.req.param('appId'))
}

/**
 * The service that v1 means by an app: its only one.
 *
 * @throws {ApiError} 400 `APP_NOT_FOUND` or `SERVICE_NOT_NAMED` (spec §4.11).
 */
export function onlyService(supervisor: Supervisor, appId: number): ServiceId {
  const app = supervisor.app(appId)
  const [service, ...others] = app?.services ?? []
  if (service === undefined) throw new ApiError(400, 'APP_NOT_FOUND', NOT_INSTALLED)
  if (others.length > 0) throw new ApiError(400, 'SERVICE_NOT_NAMED', UNNAMED)
  return { appId, serviceName: service.serviceName }
}

/**
 * The service a body of v2 names: either of the two names is enough (spec §5.4). A name that is
 * none is an error in an app of one service too (spec §24.14).
 *
 * @throws {ApiError} 400 `SERVICE_NOT_NAMED`, 404 `APP_NOT_FOUND` or `SERVICE_NOT_FOUND`.
 */
export function namedService(supervisor: Supervisor, appId: number, body: Body): ServiceId {
  const name = textOf(body.serviceName)
  const imageId = wholeNumber(body.imageId)
  if (name === undefined && imageId === undefined) {
    throw new ApiError(400, 'SERVICE_NOT_NAMED', UNNAMED)
  }
  const app = supervisor.app(appId)
  if (!app) throw new ApiError(404, 'APP_NOT_FOUND', NOT_INSTALLED)
  const service = app.services.find(
    (one) => one.serviceName === name || (imageId !== undefined && one.imageId === imageId),
  )
  if (service) return { appId, serviceName: service.serviceName }
  const message = 'Service not found, a container must exist for this endpoint to work'
  throw new ApiError(404, 'SERVICE_NOT_FOUND', message)
}
