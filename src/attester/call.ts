import type { Context } from 'hono'
import type { CallOptions } from '../device/devices.ts'
import type { PluginEnv } from '../plugin.ts'

/**
 * Whom the device call of a request is made for: callers take turns by listener, address and name,
 * and one that goes away gives its place up.
 */
export function callOf({ env, req }: Context<PluginEnv>): CallOptions {
  return {
    caller: [env.listener, env.peer().address, env.caller.name].join(' '),
    signal: req.raw.signal,
  }
}
