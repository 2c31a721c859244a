/**
 * The public entry for plugin authors, `cvmd/plugin`: everything a plugin needs and nothing else.
 * A plugin file that imports nothing receives the same as an argument, see {@link Kit}.
 */
import { Hono } from 'hono'
import * as v from 'valibot'
import { z } from 'zod'
import { secret } from './config/secret.ts'
import { ApiError } from './errors.ts'
import { definePlugin } from './plugin.ts'
import { route } from './route.ts'
import { looseJson, validate } from './validate.ts'

export type {
  Caller,
  Capability,
  ConfigOf,
  Device,
  Peer,
  Permissions,
  Plugin,
  PluginContext,
  PluginEnv,
  PluginInstance,
  RequestFacts,
  Requirement,
  RoutesOf,
  Services,
} from './plugin.ts'
export { ApiError, definePlugin, looseJson, route, secret, validate }

/** What a dependency-free plugin file receives: `export default (kit) => kit.definePlugin(…)`. */
export interface Kit {
  readonly definePlugin: typeof definePlugin
  readonly Hono: typeof Hono
  /** valibot, for the configuration. */
  readonly v: typeof v
  /** zod, for requests. */
  readonly z: typeof z
  readonly route: typeof route
  readonly validate: typeof validate
  readonly looseJson: typeof looseJson
  readonly ApiError: typeof ApiError
  readonly secret: typeof secret
}

/** Frozen, because all plugin files receive the same one. */
export const kit: Kit = Object.freeze({
  definePlugin,
  Hono,
  v,
  z,
  route,
  validate,
  looseJson,
  ApiError,
  secret,
})
