import { WORKLOAD_TYPES, type WorkloadType } from '../../model.ts'
import { gatewayFqdn, gatewayName } from './gateways.ts'
import type { WorkloadKind } from './kind.ts'
import { zmachine, zmachineLight } from './machines.ts'
import { network, networkLight } from './networks.ts'
import { ip, ipv4 } from './public-ips.ts'
import { qsfs } from './qsfs.ts'
import { volume, zdb, zmount } from './storage.ts'
import { zlogs } from './zlogs.ts'

const KINDS: { readonly [T in WorkloadType]: WorkloadKind<T> } = {
  zmount,
  volume,
  qsfs,
  network,
  'network-light': networkLight,
  ipv4,
  ip,
  zmachine,
  'zmachine-light': zmachineLight,
  zlogs,
  zdb,
  'gateway-name-proxy': gatewayName,
  'gateway-fqdn-proxy': gatewayFqdn,
}

export function kindOf<T extends WorkloadType>(type: T): WorkloadKind<T> {
  return KINDS[type]
}

export function isWorkloadType(type: string): type is WorkloadType {
  return (WORKLOAD_TYPES as readonly string[]).includes(type)
}
