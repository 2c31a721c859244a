import * as v from 'valibot'
import { type CallOptions, type EngineClient, filtersOf, segment } from './client.ts'
import { listOf, Text, Texts } from './shapes.ts'

const Volume = v.looseObject({
  Name: v.string(),
  Driver: Text,
  /** Where its files are, on the engine's machine. */
  Mountpoint: Text,
  Labels: Texts,
  Options: Texts,
  /** RFC 3339. */
  CreatedAt: Text,
})
export type Volume = v.InferOutput<typeof Volume>

const VolumeList = v.looseObject({ Volumes: listOf(Volume) })

export interface ListVolumesOptions extends CallOptions {
  readonly labels?: readonly string[]
}

/** A volume as it is asked for, in the engine's own form. */
export interface VolumeBody {
  readonly Name: string
  readonly Driver?: string
  readonly DriverOpts?: Readonly<Record<string, string>>
  readonly Labels?: Readonly<Record<string, string>>
}

/** Calls about volumes. All throw {@link EngineError}. */
export interface Volumes {
  list(options?: ListVolumesOptions): Promise<readonly Volume[]>
  inspect(volume: string, options?: CallOptions): Promise<Volume>
  /** Docker gives the volume that has the name already, whatever its labels. */
  create(body: VolumeBody, options?: CallOptions): Promise<Volume>
  /** @throws `ENGINE_CONFLICT` while a container uses it. */
  remove(volume: string, options?: CallOptions): Promise<void>
}

/** A volume may hold many files. */
const REMOVE_MS = 300_000

export function createVolumes(client: EngineClient): Volumes {
  const at = (volume: string, action: string) => `/volumes/${segment(volume, action)}`

  return {
    list: async ({ labels, ...options } = {}) => {
      const query = { filters: filtersOf({ label: labels }) }
      const call = { action: 'list volumes', path: '/volumes', query, ...options }
      return (await client.json(call, VolumeList)).Volumes
    },

    inspect: async (volume, options) => {
      const action = `inspect volume "${volume}"`
      return client.json({ action, path: at(volume, action), ...options }, Volume)
    },

    create: async (body, options) => {
      const action = `create volume "${body.Name}"`
      segment(body.Name, action)
      const call = { action, method: 'POST', path: '/volumes/create', body } as const
      return client.json({ ...call, ...options }, Volume)
    },

    remove: async (volume, options) => {
      const action = `remove volume "${volume}"`
      const path = at(volume, action)
      await client.status({ action, method: 'DELETE', path, deadlineMs: REMOVE_MS, ...options })
    },
  }
}
