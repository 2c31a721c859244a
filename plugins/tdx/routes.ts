import { type Context, Hono } from 'hono'
import type { Attester } from '../../src/attester/attester.ts'
import { callOf } from '../../src/attester/call.ts'
import { deviceProblem } from '../../src/attester/problems.ts'
import { wrongPlatform } from '../../src/attester/wrong-platform.ts'
import { prpcBody, prpcQuery } from '../../src/compat/prpc/arguments.ts'
import { padReportData, prpcJson } from '../../src/compat/prpc.ts'
import type { TdxDevice } from '../../src/device/devices.ts'
import { ApiError } from '../../src/errors.ts'
import type { PluginEnv } from '../../src/plugin.ts'
import { type RouteFacts, route } from '../../src/route.ts'
import {
  GetQuoteQuery,
  QuoteAnswer,
  quoteAnswer,
  RegistersAnswer,
  ReportDataRequest,
  registersAnswer,
  SdkQuoteAnswer,
  SeedQuoteAnswer,
  sdkQuoteAnswer,
  seedQuoteAnswer,
} from './messages.ts'
import type { Quotes } from './quotes.ts'

/**
 * Whoever may quote chooses what this machine vouches for, so reading is not enough; and nobody
 * would read the quote behind a HEAD.
 */
const QUOTING: Pick<RouteFacts, 'scope' | 'head'> = { scope: 'tdx:quote', head: false }

const BYTES = 'application/octet-stream'

/** Everything the routes need. */
export interface Served {
  readonly attester: Attester
  readonly quotes: Quotes
  /** Read at the start. */
  vmConfig(): string
}

/** Routes for applications, in dstack's dialect, and for operators below `/cvmd/tdx/`. */
export function tdxRoutes({ attester, quotes, vmConfig }: Served) {
  const quote = (reportData: Uint8Array, c: Context<PluginEnv>) =>
    quotes.make(padReportData(reportData), callOf(c))

  const report = async (reportData: Uint8Array, c: Context<PluginEnv>) => {
    const padded = padReportData(reportData)
    return bytesAnswer(await ask('make a TDREPORT', (device) => device.report(padded, callOf(c))))
  }

  /** What goes wrong with the device is told as over HTTP. */
  const ask = async <T>(what: string, question: (device: TdxDevice) => Promise<T>): Promise<T> => {
    if (!attester.tdx) throw wrongPlatform(attester, what)
    try {
      return await question(attester.tdx)
    } catch (thrown) {
      throw deviceProblem(thrown)
    }
  }

  return new Hono<PluginEnv>()
    .get(
      '/GetQuote',
      route({
        ...QUOTING,
        summary: 'A quote over report data, in base64',
        answers: { 200: { description: 'The quote', schema: SeedQuoteAnswer } },
      }),
      prpcQuery(GetQuoteQuery),
      async (c) => {
        const { report_data, encoding } = c.req.valid('query')
        const answer = encoding === 'hex' ? quoteAnswer : seedQuoteAnswer
        return prpcJson(answer(await quote(report_data, c), vmConfig()))
      },
    )
    .post(
      '/GetQuote',
      route({
        ...QUOTING,
        summary: 'A quote over report data, in hex, as the dstack SDKs ask for it',
        answers: { 200: { description: 'The quote', schema: SdkQuoteAnswer } },
      }),
      prpcBody(ReportDataRequest),
      async (c) => {
        const made = await quote(c.req.valid('json').report_data, c)
        return prpcJson(sdkQuoteAnswer(made, vmConfig()))
      },
    )
    .get(
      '/v0/GetQuote',
      route({
        ...QUOTING,
        summary: 'A quote over report data, exactly as dstack 0.5 answers',
        answers: { 200: { description: 'The quote', schema: QuoteAnswer } },
      }),
      prpcQuery(ReportDataRequest),
      async (c) => {
        const made = await quote(c.req.valid('query').report_data, c)
        return prpcJson(quoteAnswer(made, vmConfig()))
      },
    )
    .post(
      '/v0/GetQuote',
      route({
        ...QUOTING,
        summary: 'The same by POST',
        answers: { 200: { description: 'The quote', schema: QuoteAnswer } },
      }),
      prpcBody(ReportDataRequest),
      async (c) => {
        const made = await quote(c.req.valid('json').report_data, c)
        return prpcJson(quoteAnswer(made, vmConfig()))
      },
    )
    .get(
      '/cvmd/tdx/registers',
      route({
        summary: 'MRTD and RTMRs as they are now',
        answers: { 200: { description: 'The registers', schema: RegistersAnswer } },
      }),
      async (c) => {
        const now = await ask('read registers', (device) => device.registers(callOf(c)))
        return c.json(registersAnswer(now))
      },
    )
    .get(
      '/cvmd/tdx/ccel',
      route({
        summary: 'The boot event log as firmware wrote it, padding included',
        answers: { 200: { description: 'A TCG2 event log', type: BYTES } },
      }),
      async () => {
        const log = await ask('read the boot event log', (device) => device.bootLog())
        if (log) return bytesAnswer(log)
        throw new ApiError(
          404,
          'CCEL_NOT_FOUND',
          'Cannot read the boot event log: the firmware of this machine left none',
        )
      },
    )
    .get(
      '/cvmd/tdx/tdreport',
      route({
        ...QUOTING,
        summary: 'A TDREPORT over report data',
        answers: { 200: { description: '1024 bytes', type: BYTES } },
      }),
      prpcQuery(ReportDataRequest),
      (c) => report(c.req.valid('query').report_data, c),
    )
    .post(
      '/cvmd/tdx/tdreport',
      route({
        ...QUOTING,
        summary: 'The same by POST',
        answers: { 200: { description: '1024 bytes', type: BYTES } },
      }),
      prpcBody(ReportDataRequest),
      (c) => report(c.req.valid('json').report_data, c),
    )
}

function bytesAnswer(bytes: Uint8Array): Response {
  return new Response(new Uint8Array(bytes), {
    headers: {
      'content-type': BYTES,
      'content-length': String(bytes.length),
      'cache-control': 'no-store',
    },
  })
}
