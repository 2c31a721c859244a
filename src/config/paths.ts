import { tmpdir, userInfo } from 'node:os'
import { join, resolve } from 'node:path'

/** Where cvmd keeps things (DESIGN: state and listeners). */
export interface Paths {
  /** Absolute; one folder per plugin in it. */
  readonly stateDir: string
  /** Absolute; Unix sockets. */
  readonly runDir: string
}

/** Where root's sockets are. */
export const ROOT_RUN_DIR = '/run/cvmd'

/** The configuration file used when none is named. */
export const DEFAULT_CONFIG_FILE = '/etc/cvmd/cvmd.toml'

/**
 * Where runtime events are logged: with root's own folders, where dstack's boot does, so that one
 * log goes on from the other.
 */
export function runtimeEventsFile({ runDir }: Paths): string {
  const shared = process.getuid?.() === 0 && runDir === ROOT_RUN_DIR
  return shared ? '/run/log/dstack/runtime_events.log' : join(runDir, 'runtime_events.log')
}

/** Configured folders, else the system's for root and the user's own for anybody else. */
export function defaultPaths(config: {
  readonly state_dir?: string | undefined
  readonly run_dir?: string | undefined
}): Paths {
  const { HOME, XDG_RUNTIME_DIR, XDG_STATE_HOME } = process.env
  const root = process.getuid?.() === 0
  const home = XDG_STATE_HOME ?? join(HOME ?? tmpdir(), '.local/state')
  const user = root ? 'root' : String(process.getuid?.() ?? userInfo().username)
  return {
    stateDir: resolve(config.state_dir ?? (root ? '/var/lib/cvmd' : join(home, 'cvmd'))),
    runDir: resolve(
      config.run_dir ??
        (root
          ? ROOT_RUN_DIR
          : XDG_RUNTIME_DIR
            ? join(XDG_RUNTIME_DIR, 'cvmd')
            : join(tmpdir(), `cvmd-${user}`)),
    ),
  }
}
