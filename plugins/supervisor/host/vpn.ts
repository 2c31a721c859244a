import { lstat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Systemd } from './systemd.ts'

export interface VpnOptions {
  /** Folder in which the VPN makes the file `active` while it is connected. */
  readonly statusFolder: string
  /** Unit of the VPN: `openvpn`. */
  readonly unit: string
  readonly systemd: Systemd
}

/** What `GET /v2/device/vpn` shows (spec §5.11). */
export interface VpnStatus {
  readonly enabled: boolean
  readonly connected: boolean
}

/** Looks at the VPN; both are false where there is none. Never rejects. */
export async function vpnStatus({ statusFolder, unit, systemd }: VpnOptions): Promise<VpnStatus> {
  const [enabled, connected] = await Promise.all([
    systemd.isActive(unit),
    lstat(join(statusFolder, 'active')).then(
      () => true,
      () => false,
    ),
  ])
  return { enabled, connected }
}
