import { z } from 'zod'
import { base64, bytesField, hex } from '../../src/compat/prpc/bytes.ts'
import type { TdxRegisters } from '../../src/device/devices.ts'
import { lazySchema } from '../../src/lazy-schema.ts'
import type { MadeQuote } from './quotes.ts'

/** The argument of every call that binds something to its answer. */
export const ReportDataRequest = lazySchema(() =>
  z.object({
    report_data: bytesField('0 to 64 bytes, padded with zero bytes on the right'),
  }),
)

/** GET takes an encoding beside it. */
export const GetQuoteQuery = lazySchema(() =>
  ReportDataRequest.extend({
    encoding: z
      .enum(['base64', 'hex'])
      .default('base64')
      .describe("base64: the seed API's answer; hex: dstack's own"),
  }),
)

const Register = lazySchema(() => z.string().describe('48 bytes in hex'))

const Registers = {
  rtmr0: Register,
  rtmr1: Register,
  rtmr2: Register,
  rtmr3: Register,
}

const Context = {
  event_log: z.string().describe('JSON text: the entries that replay to the RTMRs'),
  report_data: z.string().describe('64 bytes in hex, as they are in the quote'),
  vm_config: z.string().describe('As configured'),
}

/** dstack's own answer (spec dstack §5.1), in the order of its declaration. */
export const QuoteAnswer = lazySchema(() =>
  z.object({ quote: z.string().describe('hex'), ...Context }),
)

/** The same for the published SDKs, which do not mind more. */
export const SdkQuoteAnswer = lazySchema(() => QuoteAnswer.extend(Registers))

/** The seed API's answer (spec dstack §2.1), and what it leaves out. */
export const SeedQuoteAnswer = lazySchema(() =>
  z.object({
    quote: z.string().describe('base64'),
    ...Registers,
    ...Context,
    quote_hex: z.string().describe('hex'),
  }),
)

/** Every register of the machine, 48 bytes each. */
export const RegistersAnswer = lazySchema(() =>
  z.object({
    mrtd: Register,
    mrconfigid: Register,
    mrowner: Register,
    mrownerconfig: Register,
    ...Registers,
  }),
)

export function registersAnswer(now: TdxRegisters): z.output<typeof RegistersAnswer> {
  return {
    mrtd: hex(now.mrtd),
    mrconfigid: hex(now.mrConfigId),
    mrowner: hex(now.mrOwner),
    mrownerconfig: hex(now.mrOwnerConfig),
    ...rtmrsOf(now.rtmr),
  }
}

export function quoteAnswer(made: MadeQuote, vmConfig: string): z.output<typeof QuoteAnswer> {
  return { quote: hex(made.quote), ...contextOf(made, vmConfig) }
}

export function sdkQuoteAnswer(made: MadeQuote, vmConfig: string): z.output<typeof SdkQuoteAnswer> {
  return { ...quoteAnswer(made, vmConfig), ...rtmrsOf(made.td.rtmr) }
}

export function seedQuoteAnswer(
  made: MadeQuote,
  vmConfig: string,
): z.output<typeof SeedQuoteAnswer> {
  return {
    quote: base64(made.quote),
    ...rtmrsOf(made.td.rtmr),
    ...contextOf(made, vmConfig),
    quote_hex: hex(made.quote),
  }
}

/** `rtmr0` to `rtmr3` in hex. */
function rtmrsOf(rtmr: TdxRegisters['rtmr']) {
  return { rtmr0: hex(rtmr[0]), rtmr1: hex(rtmr[1]), rtmr2: hex(rtmr[2]), rtmr3: hex(rtmr[3]) }
}

function contextOf({ td, eventLog }: MadeQuote, vmConfig: string) {
  return { event_log: eventLog, report_data: hex(td.reportData), vm_config: vmConfig }
}
