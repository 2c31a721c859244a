import { Hono } from 'hono'
import type { PluginEnv } from '../../../src/plugin.ts'
import { localRoutes } from './local.ts'
import type { ApiParts } from './parts.ts'
import { v1Routes } from './v1.ts'
import { v2Routes } from './v2.ts'

/** All routes of balena's supervisor (spec §4 to §6). */
export function deviceRoutes(parts: ApiParts) {
  return new Hono<PluginEnv>()
    .route('/', v1Routes(parts))
    .route('/', v2Routes(parts))
    .route('/', localRoutes(parts))
}
