import { struct } from '../../json/compound.ts'
import { bool, string, u64 } from '../../json/scalars.ts'
import type { DataOf } from '../../model.ts'
import { must, type WorkloadKind } from './kind.ts'

const size = ['size', u64('gridtypes.Unit')] as const

export const zmount: WorkloadKind<'zmount'> = sized('zos.ZMount')
export const volume: WorkloadKind<'volume'> = sized('zos.Volume')

export const zdb: WorkloadKind<'zdb'> = {
  form: struct<DataOf['zdb']>('zos.ZDB', {
    size,
    // The rules see to it that it is one of two.
    mode: ['mode', string('zos.ZDBMode') as never],
    password: ['password', string()],
    public: ['public', bool],
  }),
  check({ size, mode }) {
    must(size > 0n, 'invalid size')
    must(mode === 'user' || mode === 'seq', 'invalid mode')
  },
  challenge: (data) => `${data.size}${data.mode}${data.password}${data.public}`,
  capacity: (data) => ({ hru: data.size }),
  updatable: true,
}

function sized(goType: string) {
  return {
    form: struct<{ readonly size: bigint }>(goType, { size }),
    check: ({ size }: { readonly size: bigint }) => must(size > 0n, 'invalid size'),
    challenge: ({ size }: { readonly size: bigint }) => `${size}`,
    capacity: ({ size }: { readonly size: bigint }) => ({ sru: size }),
    updatable: true,
  }
}
