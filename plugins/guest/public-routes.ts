import type { Hono } from 'hono'
import { z } from 'zod'
import { callOf } from '../../src/attester/call.ts'
import { prpcQuery } from '../../src/compat/prpc/arguments.ts'
import { bytesField } from '../../src/compat/prpc/bytes.ts'
import { prpcMethod } from '../../src/compat/prpc/method.ts'
import { prpcJson } from '../../src/compat/prpc.ts'
import { systemInfo } from '../../src/device/system-info.ts'
import { ApiError } from '../../src/errors.ts'
import type { PluginEnv } from '../../src/plugin.ts'
import { route } from '../../src/route.ts'
import { appInfo, appInfoV1 } from './info.ts'
import { asked, VERSION_ANSWER } from './local-methods.ts'
import { type GuestParts, MAKES_EVIDENCE } from './parts.ts'
import { statusPage } from './status-page.ts'
import { systemMetrics } from './system-metrics.ts'

const AttestationQuery = z.object({
  nonce: bytesField('At most 64 bytes that the evidence is bound to'),
})

/**
 * What visitors from outside may ask (spec dstack §2.3, §5.3). Nothing here takes report data as
 * it is, and nothing tells more than the application's own file makes public.
 */
export function publicRoutes(app: Hono<PluginEnv>, parts: GuestParts): void {
  const { attester, facts, identity, publicAttestations } = parts

  app.get(
    '/attestation',
    route({ summary: 'Evidence bound to a nonce', scope: 'attestation:read', ...MAKES_EVIDENCE }),
    prpcQuery(AttestationQuery),
    async (c) => {
      const { nonce } = c.req.valid('query')
      return prpcJson(await asked(publicAttestations.answer(nonce, callOf(c))))
    },
  )

  app.get('/', route({ summary: 'A page for a person' }), (c) =>
    c.html(statusPage(identity(), attester), 200, {
      'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'",
      'x-app-version': `v${VERSION_ANSWER.version}`,
    }),
  )

  app.get(
    '/metrics',
    route({
      summary: 'Figures of the machine, where the application makes them public',
      answers: { 200: { description: 'Metrics', type: 'text/plain' } },
    }),
    async (c) => {
      if (!identity().publicSysInfo) throw new ApiError(404, 'ROUTE_NOT_FOUND', 'Not public here')
      const headers = { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }
      return c.body(systemMetrics(await systemInfo()), 200, headers)
    },
  )

  const shown = (message: object) => {
    const response = prpcJson(message)
    response.headers.set('x-app-version', `v${VERSION_ANSWER.version}`)
    return response
  }

  prpcMethod(app, {
    // Without a service's name both `Worker` and `Tappd` are meant; a Unix socket is the latter's.
    paths: ['/prpc/Worker.Info', '/prpc/Info'],
    request: undefined,
    facts: { summary: 'Application and machine, as far as it is public' },
    answer: async (_, c) => {
      const found = await asked(facts.read(identity(), callOf(c)))
      const local = c.env.listener.startsWith('unix:') && !c.req.path.includes('Worker.')
      return shown(appInfo(identity(), found, local || identity().publicTcbInfo))
    },
  })

  prpcMethod(app, {
    paths: ['/prpc/v1/Worker.Info', '/prpc/v1/Info'],
    request: undefined,
    facts: { summary: 'Application and machine, as far as it is public' },
    answer: async (_, c) => {
      const found = await asked(facts.read(identity(), callOf(c)))
      return shown(appInfoV1(identity(), found, identity().publicTcbInfo))
    },
  })

  prpcMethod(app, {
    paths: ['/prpc/Worker.Version', '/prpc/Version', '/prpc/v1/Worker.Version', '/prpc/v1/Version'],
    request: undefined,
    facts: { summary: 'Version of the agent' },
    answer: () => shown(VERSION_ANSWER),
  })
}
