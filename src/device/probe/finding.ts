import { errnoOf } from '../../errors.ts'
import type { NoNative } from '../choose-transport.ts'

/** What was tried to find out one thing about the machine, and what came of it. */
export interface Finding {
  /** `unknown`: it may be there, but this process could not find out or may not use it. */
  readonly state: 'present' | 'absent' | 'unknown'
  /** The path that decided, as the system has it. */
  readonly path: string
  /** What was done with it: `mkdir, read provider, rmdir`; only looked at when absent. */
  readonly tried?: string
  /** `ENOENT`, `EACCES`, …; undefined on success. */
  readonly errno?: string
  /** What it means, in words. */
  readonly meaning: string
  /** What to do about it; undefined when nothing needs doing. */
  readonly remedy?: string
  /** Of report entries: who makes the reports, such as `tdx_guest`. */
  readonly provider?: string
}

/** What {@link explained} needs to know beside the error. */
export interface Circumstances {
  /** As in {@link Finding}. */
  readonly path: string
  readonly tried?: string
  /** What to do when it is not there. */
  readonly absent: string
  readonly noNative?: NoNative | undefined
}

/** What a failure means for what was looked for. */
export function explained(error: unknown, circumstances: Circumstances): Finding {
  const { path, tried, absent, noNative } = circumstances
  const errno = errnoOf(error) ?? 'EUNKNOWN'
  const at = { path, errno, ...(tried !== undefined && { tried }) }
  if (runtimeRefuses(error)) {
    const remedy = 'run "cvmd permissions --deno" and start with the flags it prints'
    return { ...at, state: 'unknown', meaning: `the runtime refuses ${path}`, remedy }
  }
  switch (errno) {
    case 'ENOENT':
    case 'ENOTDIR':
    case 'ENODEV':
    case 'ENXIO':
      return { ...at, state: 'absent', meaning: `${path} does not exist`, remedy: absent }
    case 'EACCES':
    case 'EPERM': {
      const remedy = `give the daemon's user read and write access to ${path}`
      return { ...at, state: 'unknown', meaning: `${path} may not be used`, remedy }
    }
    case 'EROFS': {
      const remedy = 'mount it read-write where the daemon runs'
      return { ...at, state: 'unknown', meaning: `${path} is mounted read-only`, remedy }
    }
    case 'ENOTSUP': {
      const why = noNative === undefined ? '' : `: ${noNative.reason}`
      const remedy = noNative?.remedy ?? 'build the native addon'
      const meaning = `${path} is there, but using it needs the native addon${why}`
      return { ...at, state: 'unknown', meaning, remedy }
    }
    default:
      return { ...at, state: 'unknown', meaning: `${path}: ${errno}`, remedy: 'see the kernel log' }
  }
}

/** Deno's own refusal, or one that a transport has given an errno. */
function runtimeRefuses(error: unknown): boolean {
  for (const thrown of [error, error instanceof Error ? error.cause : undefined]) {
    if (thrown instanceof Error && /permission|NotCapable/i.test(`${thrown.name}`)) return true
  }
  return false
}
