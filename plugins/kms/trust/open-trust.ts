import { intelSgxRoot } from '../../../src/attest/tdx/root.ts'
import { fetchCollateral } from '../../../src/collateral/fetch.ts'
import { pccsOf } from '../../../src/collateral/pccs-url.ts'
import { parseCertificate } from '../../../src/x509/certificate.ts'
import { collateralCache } from './collateral-cache.ts'
import { collateralFiles } from './collateral-files.ts'
import type { TrustConfig } from './config.ts'
import { readAnchor, readAuthorities } from './read-file.ts'
import type { EvidenceTrust } from './verified-evidence.ts'

/** What trust needs beside its configuration. */
export interface OpenTrustOptions {
  /** Told of files and services that cannot be used. */
  readonly log: (message: string) => void
  /** Ends what is being fetched. */
  readonly signal?: AbortSignal | undefined
  /** Unix time in milliseconds. */
  readonly now?: () => number
}

/**
 * Reads whom to believe. Collateral is looked for when it is needed: in files first, and where
 * there is none that is valid, at the service.
 *
 * @throws {TrustError} `TRUST_SETUP` for an anchor or authorities that cannot be used, naming the
 *   file.
 */
export async function openTrust(
  config: TrustConfig,
  { log, signal, now = Date.now }: OpenTrustOptions,
): Promise<EvidenceTrust> {
  const { tdx_root, nitro_root, pccs_url, pccs_ca_file } = config
  const tdxRoot = tdx_root === undefined ? undefined : await readAnchor(tdx_root)
  const nitroRoot = nitro_root === undefined ? undefined : await readAnchor(nitro_root)
  // It is read again with each fetch; a mistake should show now.
  if (pccs_ca_file !== undefined) await readAuthorities(pccs_ca_file)
  const files =
    config.collateral === undefined ? undefined : collateralFiles({ path: config.collateral, log })
  await files?.look()
  const authorities = pccs_ca_file === undefined ? undefined : () => readAuthorities(pccs_ca_file)
  const service = pccs_url === undefined ? undefined : pccsOf(pccs_url, authorities)
  const root = parseCertificate(tdxRoot ?? intelSgxRoot())
  const cache =
    service &&
    collateralCache({
      fetch: (platform, at) => fetchCollateral(service, platform, { root, at }, signal),
      log,
    })
  return {
    tdxRoot,
    nitroRoot,
    requireSeptVeDisable: config.require_sept_ve_disable,
    async collateral(platform) {
      const at = now()
      const local = await files?.find(platform, at)
      if (!cache || (local && at < local.facts.validUntil)) return local?.collateral
      return (await cache.get(platform, at)).collateral
    },
  }
}
