import { Hono } from 'hono'
import type { PluginEnv } from '../../../src/plugin.ts'
import { route } from '../../../src/route.ts'
import { GLOBAL } from '../keys/supervisor-keys.ts'
import { text } from './answers.ts'
import type { ApiParts } from './parts.ts'

/** What only the operator has, on the daemon's own socket. */
export function operatorRoutes({ keys }: Pick<ApiParts, 'keys'>) {
  return new Hono<PluginEnv>().get(
    '/cvmd/supervisor/key',
    route({
      summary: 'The API key of the whole device',
      exposure: 'local',
      scope: 'supervisor:key',
      answers: { 200: { description: '64 hex digits', type: 'text/plain' } },
    }),
    () => {
      const answer = text(keys.keyOf(GLOBAL))
      answer.headers.set('cache-control', 'no-store')
      return answer
    },
  )
}
