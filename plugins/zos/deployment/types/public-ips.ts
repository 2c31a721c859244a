import { struct } from '../../json/compound.ts'
import { bool } from '../../json/scalars.ts'
import type { DataOf } from '../../model.ts'
import { must, type WorkloadKind } from './kind.ts'

export const ip: WorkloadKind<'ip'> = {
  form: struct<DataOf['ip']>('zos.PublicIP', { v4: ['v4', bool], v6: ['v6', bool] }),
  check: ({ v4, v6 }) => must(v4 || v6, 'public ip workload with no selections'),
  challenge: ({ v4, v6 }) => `${v4}${v6}`,
  capacity: ({ v4 }) => ({ ipv4u: v4 ? 1n : 0n }),
  updatable: false,
}

/** Deprecated, taken for old deployments. */
export const ipv4: WorkloadKind<'ipv4'> = {
  form: struct<DataOf['ipv4']>('zos.PublicIP4', {}),
  check: () => {},
  challenge: () => '',
  capacity: () => ({ ipv4u: 1n }),
  updatable: false,
}
