import type { Context, Hono } from 'hono'
import { z } from 'zod'
import { callOf } from '../../src/attester/call.ts'
import { wrongPlatform } from '../../src/attester/wrong-platform.ts'
import { bytesField, hex } from '../../src/compat/prpc/bytes.ts'
import { quoteEventLog } from '../../src/compat/prpc/event-log.ts'
import { prpcMethod } from '../../src/compat/prpc/method.ts'
import { prpcJson } from '../../src/compat/prpc.ts'
import type { PluginEnv } from '../../src/plugin.ts'
import { appInfo } from './info.ts'
import { asked, VERSION_ANSWER } from './local-methods.ts'
import { type GuestParts, MAKES_EVIDENCE } from './parts.ts'

const QuoteRequest = z.object({
  report_data: bytesField('What is hashed into the report data, or with raw, the 64 bytes of it'),
  hash_algorithm: z.string().default('').describe('sha256 … keccak512, or raw; default sha512'),
  prefix: z.string().default('').describe('Put before the data with a colon; default app-data'),
})

const RawQuoteRequest = z.object({ report_data: bytesField('Exactly 64 bytes') })

/** The legacy `Tappd` service (spec dstack §5.2), whose name before the method may be left out. */
export function tappdMethods(app: Hono<PluginEnv>, parts: GuestParts): void {
  const { attester, facts, identity } = parts
  const paths = (method: string) => [`/prpc/Tappd.${method}`, `/prpc/${method}`]

  const quote = async (reportData: Uint8Array, algorithm: string, c: Context<PluginEnv>) => {
    if (attester.platform !== 'tdx') throw wrongPlatform(attester, 'make a TDX quote')
    const evidence = await asked(attester.evidence(reportData, callOf(c)))
    if (evidence.platform !== 'tdx') throw wrongPlatform(attester, 'make a TDX quote')
    return prpcJson({
      quote: hex(evidence.quote),
      event_log: quoteEventLog(evidence.eventLog),
      hash_algorithm: algorithm,
      // The original says so whatever prefix was asked for.
      prefix: algorithm === 'raw' ? '' : 'app-data',
    })
  }

  prpcMethod(app, {
    paths: paths('TdxQuote'),
    request: QuoteRequest,
    facts: {
      summary: 'A TDX quote over the hash of given data',
      exposure: 'local',
      ...MAKES_EVIDENCE,
    },
    answer: async ({ report_data, hash_algorithm, prefix }, c) => {
      const { hashed } = await import('./report-data.ts')
      const data = hashed(report_data, hash_algorithm, prefix)
      return quote(data, hash_algorithm || 'sha512', c)
    },
  })

  prpcMethod(app, {
    paths: paths('RawQuote'),
    request: RawQuoteRequest,
    facts: {
      summary: 'A TDX quote over 64 bytes as they are',
      exposure: 'local',
      ...MAKES_EVIDENCE,
    },
    answer: async ({ report_data }, c) => {
      const { hashed } = await import('./report-data.ts')
      return quote(hashed(report_data, 'raw', ''), 'raw', c)
    },
  })

  prpcMethod(app, {
    paths: ['/prpc/Tappd.Info'],
    request: undefined,
    facts: { summary: 'Application and machine', exposure: 'local' },
    answer: async (_, c) => {
      const found = await asked(facts.read(identity(), callOf(c)))
      return prpcJson(appInfo(identity(), found, true))
    },
  })

  prpcMethod(app, {
    paths: ['/prpc/Tappd.Version'],
    request: undefined,
    facts: { summary: 'Version of the agent', exposure: 'local' },
    answer: () => prpcJson(VERSION_ANSWER),
  })
}
