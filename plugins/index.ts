import type { AnyPlugin } from '../src/plugin.ts'
import actions from './actions/index.ts'
import eventlog from './eventlog/index.ts'
import uploads from './uploads/index.ts'

/** Every built-in plugin: one import and one line each, so that bundlers see them. */
export const builtins: readonly AnyPlugin[] = [eventlog, actions, uploads]
