import type { NetworkBody } from '../../../src/engine/networks.ts'

/** The bridge on which containers reach the API (spec §13.4). */
export const SUPERVISOR_NETWORK = 'supervisor0'
export const SUPERVISOR_SUBNET = '10.114.104.0/25'
export const SUPERVISOR_GATEWAY = '10.114.104.1'

/** Addresses of that network, where the usual ones are in use on this machine. */
export interface SupervisorSubnet {
  readonly subnet: string
  readonly gateway: string
}

export const USUAL_SUBNET: SupervisorSubnet = {
  subnet: SUPERVISOR_SUBNET,
  gateway: SUPERVISOR_GATEWAY,
}

/** Body of NetworkCreate. */
export function supervisorNetworkBody({
  subnet,
  gateway,
}: SupervisorSubnet = USUAL_SUBNET): NetworkBody {
  return {
    Name: SUPERVISOR_NETWORK,
    Driver: 'bridge',
    CheckDuplicate: true,
    IPAM: { Driver: 'default', Config: [{ Subnet: subnet, Gateway: gateway }] },
    Options: { 'com.docker.network.bridge.name': SUPERVISOR_NETWORK },
  }
}

/**
 * Whether an existing network of that name is the one that is needed. Its options are not looked
 * at: Podman drops the one for the bridge's name (spec §23.4).
 *
 * @param pools `IPAM.Config` of its inspection.
 */
export function isSupervisorNetwork(
  pools: readonly { readonly Subnet?: string; readonly Gateway?: string }[],
  { subnet, gateway }: SupervisorSubnet = USUAL_SUBNET,
): boolean {
  return pools.some((pool) => pool.Subnet === subnet && pool.Gateway === gateway)
}
