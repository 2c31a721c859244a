import type { IpamComposition, NetworkComposition, VolumeComposition } from './composition-model.ts'
import { MAX_ITEMS, MAX_VARIABLES } from './limits.ts'
import { isObject, type JsonObject, type Place } from './place.ts'
import { readFlag, readList, readMap, readWord } from './values.ts'

const DRIVER = /^[a-zA-Z0-9][a-zA-Z0-9_.:/-]{0,254}$/
const SUBNET = /^[0-9a-fA-F:.]{2,45}(?:\/[0-9]{1,3})?$/

type Readers = Readonly<Record<string, (given: unknown, place: Place) => unknown>>

const readOptions = (given: unknown, place: Place) => readMap(given, place, MAX_ITEMS)
const readDriver = (given: unknown, place: Place) => readWord(given, place, DRIVER)
const readSubnet = (given: unknown, place: Place) => readWord(given, place, SUBNET)
const readLabels = (given: unknown, place: Place) => readMap(given, place, MAX_VARIABLES)

const IPAM_POOL: Readers = {
  subnet: readSubnet,
  gateway: readSubnet,
  ip_range: readSubnet,
  aux_addresses: readOptions,
}

const IPAM: Readers = {
  driver: readDriver,
  options: readOptions,
  config: (given, place) =>
    readList(given, place, (pool, at) =>
      isObject(pool) ? readFields(pool, at, IPAM_POOL) : at.warn('is left out: it is no object'),
    ),
}

const NETWORK: Readers = {
  driver: readDriver,
  driver_opts: readOptions,
  labels: readLabels,
  ipam: (given, place): IpamComposition | undefined =>
    isObject(given) ? readFields(given, place, IPAM) : place.warn('is left out: it is no object'),
  enable_ipv6: readFlag,
  internal: readFlag,
  config_only: readFlag,
}

const VOLUME: Readers = { driver: readDriver, driver_opts: readOptions, labels: readLabels }

/** A network of an app (spec §9.1): what is not supported is left out. */
export function readNetwork(value: unknown, place: Place): NetworkComposition {
  return readObject(value, place, NETWORK)
}

/** A volume of an app (spec §9.1): what is not supported is left out. */
export function readVolume(value: unknown, place: Place): VolumeComposition {
  return readObject(value, place, VOLUME)
}

function readObject(value: unknown, place: Place, readers: Readers): Record<string, unknown> {
  if (value === null || value === undefined) return {}
  if (isObject(value)) return readFields(value, place, readers)
  place.warn('has settings that are left out: they must be an object')
  return {}
}

function readFields(value: JsonObject, place: Place, readers: Readers): Record<string, unknown> {
  const found: Record<string, unknown> = {}
  for (const [field, given] of Object.entries(value)) {
    const at = place.in(field)
    const reader = Object.hasOwn(readers, field) ? readers[field] : undefined
    if (reader === undefined) at.warn('is left out: it is not supported')
    else if (given !== null) {
      const taken = reader(given, at)
      if (taken !== undefined) found[field] = taken
    }
  }
  return found
}
