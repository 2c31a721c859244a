import { markedHash } from './marks.ts'

/**
 * The simulated processor and its firmware: what quotes, the PCK certificate and the collateral
 * have to agree on (spec tdx §8).
 */
export const PLATFORM = {
  /** Family, model, stepping, platform: 6 bytes, `cvmdsi` in ASCII. */
  fmspc: Buffer.from('cvmdsi'),
  /** Provisioning enclave, 2 bytes. */
  pceId: Uint8Array.of(0, 0),
  pceSvn: 11,
  /** Security version of each of the 16 SGX components. */
  componentSvns: Uint8Array.of(3, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0),
  /** Module version 1.x at security version 5, microcode 2. */
  teeTcbSvn: Uint8Array.of(5, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
  /** Measurement of the TDX module; its signer is zero, as for Intel's own. */
  mrSeam: markedHash('sha384', 'mrseam'),
} as const

/** The simulated quoting enclave. */
export const QUOTING_ENCLAVE = {
  mrEnclave: markedHash('sha256', 'quoting enclave'),
  mrSigner: markedHash('sha256', 'quoting enclave signer'),
  isvProdId: 2,
  isvSvn: 4,
  /** INIT and 64-bit mode; the mask in the identity covers the first eight bytes. */
  attributes: Buffer.from('1100000000000000e700000000000000', 'hex'),
} as const
