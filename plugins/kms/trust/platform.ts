import type { Name } from '../../../src/x509/name.ts'

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
