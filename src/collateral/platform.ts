import { EvidenceError } from '../attest/evidence-error.ts'
import { toHex } from '../attest/hex.ts'
import { parsePckExtension, pckChainOf } from '../attest/tdx/pck.ts'
import { parseQuote } from '../attest/tdx/quote.ts'
import { type Anchor, checkPckChain } from '../attest/tdx/trust.ts'
import type { Name } from '../x509/name.ts'

/** By what collateral is found. */
export interface QuotedPlatform {
  /** 12 hex digits, lower case. */
  readonly fmspc: string
  /** Which authority of Intel's issued the PCK certificate. */
  readonly ca: 'processor' | 'platform'
}

/** Which authority of Intel's has this name. */
export const authorityOf = ({ commonName }: Name): QuotedPlatform['ca'] =>
  commonName?.includes('Processor') ? 'processor' : 'platform'

/**
 * The platform that a quote comes from, of which its PCK certificate alone is verified: only about
 * platforms that exist are others asked.
 *
 * @returns Undefined where the quote cannot be read or names none of the maker's; the verifier says
 *   better what is wrong with it.
 */
export function platformOf(quote: Uint8Array, anchor: Anchor): QuotedPlatform | undefined {
  try {
    const chain = pckChainOf(parseQuote(quote))
    checkPckChain(chain, anchor)
    const [pck, { subject }] = chain
    return { fmspc: toHex(parsePckExtension(pck).fmspc), ca: authorityOf(subject) }
  } catch (error) {
    if (error instanceof EvidenceError) return undefined
    throw error
  }
}
