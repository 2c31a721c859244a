/**
 * What can go wrong with a request to the supervisor, beside the errors that pass through: a
 * `LockError` (423), a `TargetError` (400) and the reason of an aborted signal.
 *
 * - `APP_NOT_INSTALLED` (503): restart or purge of an unknown app (spec §3.2).
 * - `APP_NOT_FOUND` (404): start or stop in an unknown app (spec §4.11, §5.4).
 * - `SERVICE_NOT_FOUND`, `SERVICE_NOT_IN_TARGET` (404, spec §5.4).
 * - `NOT_LOCAL` (400): a target was posted and the device is not in local mode (spec §6).
 * - `TARGET_NOT_MEASURED` (503): the new target could not be measured, so it is not taken.
 * - `STATE_NOT_STORED` (503): what has to outlive the daemon could not be written.
 * - `ENGINE_AWAY` (503): the container engine does not answer.
 * - `OPERATION_FAILED` (503): the engine failed, or what is asked for cannot be reached.
 * - `SUSPENDED` (503): the machine is about to go down, or the plugin stops.
 * - `TOO_MANY_FOLLOWERS` (503): of logs.
 */
export type SupervisorErrorCode =
  | 'APP_NOT_INSTALLED'
  | 'APP_NOT_FOUND'
  | 'SERVICE_NOT_FOUND'
  | 'SERVICE_NOT_IN_TARGET'
  | 'NOT_LOCAL'
  | 'TARGET_NOT_MEASURED'
  | 'STATE_NOT_STORED'
  | 'ENGINE_AWAY'
  | 'OPERATION_FAILED'
  | 'SUSPENDED'
  | 'TOO_MANY_FOLLOWERS'

const STATUS = {
  APP_NOT_INSTALLED: 503,
  APP_NOT_FOUND: 404,
  SERVICE_NOT_FOUND: 404,
  SERVICE_NOT_IN_TARGET: 404,
  NOT_LOCAL: 400,
  TARGET_NOT_MEASURED: 503,
  STATE_NOT_STORED: 503,
  ENGINE_AWAY: 503,
  OPERATION_FAILED: 503,
  SUSPENDED: 503,
  TOO_MANY_FOLLOWERS: 503,
} as const satisfies Record<SupervisorErrorCode, number>

/** The message is the text of the answer, in balena's words where the spec has some. */
export class SupervisorError extends Error {
  override readonly name = 'SupervisorError'
  readonly code: SupervisorErrorCode
  readonly status: 400 | 404 | 503

  constructor(code: SupervisorErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
    this.status = STATUS[code]
  }

  /** Of restart and purge (spec §3.2). */
  static notInstalled(appId: number): SupervisorError {
    const message = `Application with ID ${appId} is not in the current state`
    return new SupervisorError('APP_NOT_INSTALLED', message)
  }

  /** Of start and stop (spec §4.11). */
  static appNotFound(): SupervisorError {
    const message = 'App not found: an app needs to be installed for this endpoint to work.'
    return new SupervisorError('APP_NOT_FOUND', message)
  }

  static serviceNotFound(): SupervisorError {
    const message = 'Service not found, a container must exist for this endpoint to work'
    return new SupervisorError('SERVICE_NOT_FOUND', message)
  }

  static notInTarget(): SupervisorError {
    return new SupervisorError('SERVICE_NOT_IN_TARGET', 'Service does not exist in target release')
  }
}
