/**
 * The few system calls the device layer makes. Three implementations: the native addon (each
 * device on a thread of its own, works under Deno's narrow permissions), plain file calls
 * (everything but ioctl and flock), and the simulated machine of `--simulate`.
 *
 * Paths are absolute and as the kernel has them; a transport made for a fixture root adds it.
 * Every failure is a {@link DeviceError}. A call cannot be taken back once it runs: deadlines and
 * abort belong to `src/device/queue.ts`.
 */
export interface Transport {
  readonly kind: 'native' | 'files' | 'simulated'
  stat(path: string): Promise<FileKind>
  /** Names in a folder, sorted. */
  list(path: string): Promise<readonly string[]>
  /**
   * Opens read-only, reads to the end on that one descriptor, closes.
   *
   * @throws {DeviceError} `EFBIG` when there is more than `maxBytes`.
   */
  read(path: string, maxBytes: number): Promise<Uint8Array>
  /**
   * Opens write-only without creating or truncating, makes exactly one write(2), closes. A short
   * write is `EIO`: the kernel's attribute files take all or nothing.
   */
  write(path: string, bytes: Uint8Array): Promise<void>
  mkdir(path: string): Promise<void>
  rmdir(path: string): Promise<void>
  /**
   * One ioctl on a device node.
   *
   * `tdreport`: TDX_CMD_GET_REPORT0 (0xC4405401) on /dev/tdx_guest, 64 bytes in, 1024 out.
   * `nsm`: NSM_IOCTL_RAW (0xC0200A00) on /dev/nsm, 1 to 4096 bytes in, at most 12288 out.
   *
   * @throws {DeviceError} `ENOTSUP` where the transport cannot make ioctls.
   */
  ioctl(path: string, operation: 'tdreport' | 'nsm', input: Uint8Array): Promise<Uint8Array>
  /**
   * Takes flock(LOCK_EX) on a file opened write-only, waiting for it.
   *
   * @returns Releases it.
   * @throws {DeviceError} `ENOTSUP` where the transport cannot lock.
   */
  lock(path: string): Promise<() => Promise<void>>
}

/** What stat(2) says a path is. */
export type FileKind = 'file' | 'directory' | 'character-device' | 'other'

/** What a {@link DeviceError} may carry beside errno, operation and path. */
export interface DeviceErrorOptions extends ErrorOptions {
  /** What the errno alone does not say; ends the message. */
  readonly detail?: string
}

/** A device call that failed, with the errno the kernel gave. */
export class DeviceError extends Error {
  override readonly name = 'DeviceError'
  /** `EIO`, `EBUSY`, `ETIMEDOUT`, …; `EACCES` and `EPERM` mean "unknown", not "absent". */
  readonly code: string
  /** `read`, `mkdir`, `ioctl`, … */
  readonly operation: string
  readonly path: string

  constructor(code: string, operation: string, path: string, options: DeviceErrorOptions = {}) {
    const { detail, ...rest } = options
    super(
      `Cannot ${operation} "${path}": ${code}${detail === undefined ? '' : `, ${detail}`}`,
      rest,
    )
    this.code = code
    this.operation = operation
    this.path = path
  }
}
