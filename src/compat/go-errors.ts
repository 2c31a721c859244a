import { constants } from 'node:os'

/** Go's `syscall.Errno.Error()` on Linux, by errno name. */
const ERRNO: Readonly<Record<string, string>> = {
  E2BIG: 'argument list too long',
  EACCES: 'permission denied',
  EAGAIN: 'resource temporarily unavailable',
  EBADF: 'bad file descriptor',
  EBUSY: 'device or resource busy',
  EDQUOT: 'disk quota exceeded',
  EEXIST: 'file exists',
  EFAULT: 'bad address',
  EFBIG: 'file too large',
  EINTR: 'interrupted system call',
  EINVAL: 'invalid argument',
  EIO: 'input/output error',
  EISDIR: 'is a directory',
  ELIBBAD: 'accessing a corrupted shared library',
  ELOOP: 'too many levels of symbolic links',
  EMFILE: 'too many open files',
  EMLINK: 'too many links',
  ENAMETOOLONG: 'file name too long',
  ENFILE: 'too many open files in system',
  ENODEV: 'no such device',
  ENOENT: 'no such file or directory',
  ENOEXEC: 'exec format error',
  ENOMEM: 'cannot allocate memory',
  ENOSPC: 'no space left on device',
  ENOSYS: 'function not implemented',
  ENOTDIR: 'not a directory',
  ENOTEMPTY: 'directory not empty',
  ENOTSUP: 'operation not supported',
  ENXIO: 'no such device or address',
  EOPNOTSUPP: 'operation not supported',
  EPERM: 'operation not permitted',
  EPIPE: 'broken pipe',
  EROFS: 'read-only file system',
  ESTALE: 'stale file handle',
  ETIMEDOUT: 'connection timed out',
  ETXTBSY: 'text file busy',
  EXDEV: 'invalid cross-device link',
}

/** Go's `syscall.Signal.String()` on Linux, by number; higher ones have no words. */
const SIGNALS = [
  '',
  'hangup',
  'interrupt',
  'quit',
  'illegal instruction',
  'trace/breakpoint trap',
  'aborted',
  'bus error',
  'floating point exception',
  'killed',
  'user defined signal 1',
  'segmentation fault',
  'user defined signal 2',
  'broken pipe',
  'alarm clock',
  'terminated',
]

/**
 * The words Go prints for an errno: `ENOENT` gives `no such file or directory`. A name that is not
 * in the table comes back as it is, so that nothing is hidden.
 *
 * Source: Go `syscall/zerrors_linux_amd64.go`, table `errors`.
 */
export function goErrno(code: string): string {
  return ERRNO[code] ?? code
}

/**
 * The words Go prints for a signal: `SIGKILL` gives `killed`, `SIGSYS` gives `signal 31`.
 *
 * Source: Go `syscall/zerrors_linux_amd64.go`, table `signals`; `syscall.Signal.String`.
 */
export function goSignal(name: string): string {
  const number = (constants.signals as Readonly<Record<string, number>>)[name]
  if (number === undefined) return name
  return SIGNALS[number] || `signal ${number}`
}
