import { list, mapped, struct } from '../../json/compound.ts'
import { hex, string, u32, u64 } from '../../json/scalars.ts'
import type { Qsfs, QsfsBackend } from '../../model.ts'
import { must, type WorkloadKind } from './kind.ts'

type Encryption = Qsfs['encryption']

const encryption = struct<Encryption>('zos.Encryption', {
  algorithm: ['algorithm', string('zos.EncryptionAlgorithm')],
  key: ['key', hex('zos.EncryptionKey')],
})

const backends = [
  'backends',
  list(
    struct<QsfsBackend>('zos.ZdbBackend', {
      address: ['address', string()],
      namespace: ['namespace', string()],
      password: ['password', string()],
    }),
  ),
] as const

const meta = mapped(
  struct<{ type: string; config: Omit<Qsfs['meta'], 'type'> }>('zos.QuantumSafeMeta', {
    type: ['type', string()],
    config: [
      'config',
      struct<Omit<Qsfs['meta'], 'type'>>('zos.QuantumSafeConfig', {
        prefix: ['prefix', string()],
        encryption: ['encryption', encryption],
        backends,
      }),
    ],
  }),
  ({ type, config }): Qsfs['meta'] => ({ type, ...config }),
  ({ type, ...config }) => ({ type, config }),
)

const group = mapped(
  struct<{ backends: readonly QsfsBackend[] }>('zos.ZdbGroup', { backends }),
  ({ backends }) => backends,
  (backends) => ({ backends }),
)

const compression = mapped(
  struct<{ algorithm: string }>('zos.QuantumCompression', { algorithm: ['algorithm', string()] }),
  ({ algorithm }) => algorithm,
  (algorithm) => ({ algorithm }),
)

const config = struct<Omit<Qsfs, 'cache'>>('zos.QuantumSafeFSConfig', {
  minimalShards: ['minimal_shards', u32],
  expectedShards: ['expected_shards', u32],
  redundantGroups: ['redundant_groups', u32],
  redundantNodes: ['redundant_nodes', u32],
  maxZdbDataDirSize: ['max_zdb_data_dir_size', u32],
  encryption: ['encryption', encryption],
  meta: ['meta', meta],
  groups: ['groups', list(group)],
  compression: ['compression', compression],
})

export const qsfs: WorkloadKind<'qsfs'> = {
  form: mapped(
    struct<{ cache: bigint; config: Omit<Qsfs, 'cache'> }>('zos.QuantumSafeFS', {
      cache: ['cache', u64('gridtypes.Unit')],
      config: ['config', config],
    }),
    ({ cache, config }): Qsfs => ({ cache, ...config }),
    ({ cache, ...config }) => ({ cache, config }),
  ),
  check({ minimalShards, expectedShards }) {
    must(minimalShards <= expectedShards, "minimal shards can't be greater than expected shards")
  },
  challenge: (data) =>
    `${data.cache}${data.minimalShards}${data.expectedShards}${data.redundantGroups}` +
    data.redundantNodes +
    data.maxZdbDataDirSize +
    encryptionChallenge(data.encryption) +
    data.meta.type +
    data.meta.prefix +
    encryptionChallenge(data.meta.encryption) +
    backendsChallenge(data.meta.backends) +
    data.groups.map(backendsChallenge).join('') +
    data.compression,
  capacity: ({ cache }) => ({ cru: 1n, mru: 1n << 30n, sru: cache }),
  updatable: true,
}

function encryptionChallenge({ algorithm, key }: Encryption): string {
  return algorithm + key
}

function backendsChallenge(backends: readonly QsfsBackend[]): string {
  return backends.map(({ address, namespace, password }) => address + namespace + password).join('')
}
