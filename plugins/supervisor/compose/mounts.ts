import type { VolumeMount } from '../target/composition-model.ts'
import type { Json } from './canonical.ts'

/** The parts of a create body that mount something (Docker Engine API, ContainerCreate). */
export interface MountParts {
  readonly Binds: readonly string[]
  readonly Mounts: readonly { readonly [name: string]: Json }[]
  /** Anonymous volumes, by path. */
  readonly Volumes: Readonly<Record<string, { readonly [name: string]: Json }>>
}

/** @param binds Beside the named volumes. */
export function mountParts(mounts: readonly VolumeMount[], binds: readonly string[]): MountParts {
  const named: string[] = []
  const others: { readonly [name: string]: Json }[] = []
  const anonymous: [string, { readonly [name: string]: Json }][] = []
  for (const mount of mounts) {
    if (mount.type === 'named') {
      const options = [mount.readOnly ? 'ro' : 'rw', ...(mount.noCopy ? ['nocopy'] : [])]
      named.push(`${mount.source}:${mount.target}:${options.join(',')}`)
    } else if (mount.type === 'tmpfs') {
      const { target: Target, size, mode } = mount
      const options = {
        ...(size === undefined ? {} : { SizeBytes: size }),
        ...(mode === undefined ? {} : { Mode: mode }),
      }
      const given = Object.keys(options).length > 0
      others.push({ Type: 'tmpfs', Target, ...(given ? { TmpfsOptions: options } : {}) })
    } else if (mount.readOnly) {
      others.push({ Type: 'volume', Target: mount.target, ReadOnly: true })
    } else anonymous.push([mount.target, {}])
  }
  return { Binds: [...named, ...binds], Mounts: others, Volumes: Object.fromEntries(anonymous) }
}
