/**
 * Updates are locked: by the app itself (`UPDATES_LOCKED`), or by other work of the supervisor
 * (`LOCKS_BUSY`). The message is the one of balena's supervisor (spec §3.2).
 */
export class LockError extends Error {
  override readonly name = 'LockError'
  readonly status = 423
  readonly code: 'UPDATES_LOCKED' | 'LOCKS_BUSY'
  readonly appId: number
  /** The service whose lock is in the way; undefined for `LOCKS_BUSY`. */
  readonly service: string | undefined

  private constructor(
    code: LockError['code'],
    message: string,
    appId: number,
    service: string | undefined,
  ) {
    super(message)
    this.code = code
    this.appId = appId
    this.service = service
  }

  /** A lock file of the app's own. */
  static byApp(appId: number, service: string): LockError {
    const message = `Lockfile exists for { appId: ${appId}, service: ${service} }`
    return new LockError('UPDATES_LOCKED', message, appId, service)
  }

  /** Other work holds the app, and did so for as long as one was ready to wait. */
  static bySupervisor(appId: number): LockError {
    const message = `Locks for app ${appId} are being held by another supervisor operation`
    return new LockError('LOCKS_BUSY', message, appId, undefined)
  }
}

/** The folder of the locks cannot be used, or a name in it is none. Says what to do about it. */
export class LockFolderError extends Error {
  override readonly name = 'LockFolderError'
  readonly status = 503
  readonly code = 'LOCK_FOLDER_UNUSABLE'
}
