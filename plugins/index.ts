import type { AnyPlugin } from '../src/plugin.ts'

/** Every built-in plugin: one import and one line each, so that bundlers see them. */
export const builtins: readonly AnyPlugin[] = []
