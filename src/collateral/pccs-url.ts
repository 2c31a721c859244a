/** Intel's service for collateral (PCS), or a cache of it (PCCS), version 4. */
export interface Pccs {
  /** What stands before `/sgx/certification/v4`; no query, no credentials. */
  readonly base: URL
  /** Where the revocation list of the root is, as DER or in hex. */
  readonly rootCrl: URL
  /** PEM: who may have signed its certificate; left out, the system's authorities. */
  readonly authorities: (() => Promise<string>) | undefined
  /** For all parts together. */
  readonly deadlineMs: number
}

const INTEL = 'api.trustedservices.intel.com'

/** The distribution point that Intel's root names: its own service does not serve the list. */
const INTEL_ROOT_CRL = 'https://certificates.trustedservices.intel.com/IntelSGXRootCA.der'

const DEADLINE_MS = 10_000

/** @param text Base URL; also with the `/sgx/certification/v4` that other tools want in it. */
export function pccsOf(text: string, authorities?: Pccs['authorities']): Pccs {
  const base = new URL(text)
  base.pathname = base.pathname.replace(/\/+$/, '').replace(/\/(sgx|tdx)\/certification\/v4$/, '')
  const rootCrl =
    base.hostname === INTEL ? new URL(INTEL_ROOT_CRL) : pccsPart(base, 'sgx', 'rootcacrl')
  return { base, rootCrl, authorities, deadlineMs: DEADLINE_MS }
}

/** Where one part of the collateral is. */
export function pccsPart(
  base: URL,
  kind: 'sgx' | 'tdx',
  path: string,
  query: Readonly<Record<string, string>> = {},
): URL {
  const url = new URL(base)
  url.pathname = `${base.pathname.replace(/\/$/, '')}/${kind}/certification/v4/${path}`
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value)
  return url
}
