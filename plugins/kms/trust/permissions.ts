import { pccsOf } from '../../../src/collateral/pccs-url.ts'
import type { Permissions } from '../../../src/plugin.ts'
import type { TrustConfig } from './config.ts'

/** The files that are read to know whom to believe, and the hosts that are asked. */
export function trustPermissions({
  tdx_root,
  nitro_root,
  collateral,
  pccs_url,
  pccs_ca_file,
}: TrustConfig): Permissions {
  const files = [tdx_root, nitro_root, collateral, pccs_ca_file]
  const read = files.filter((file) => file !== undefined)
  if (pccs_url === undefined) return { read }
  const { base, rootCrl } = pccsOf(pccs_url)
  return { read, net: [...new Set([hostOf(base), hostOf(rootCrl)])] }
}

function hostOf({ hostname, port, protocol }: URL): string {
  return `${hostname}:${port || (protocol === 'https:' ? 443 : 80)}`
}
