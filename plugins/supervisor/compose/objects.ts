import type { NetworkBody } from '../../../src/engine/networks.ts'
import type { VolumeBody } from '../../../src/engine/volumes.ts'
import type { NetworkComposition, VolumeComposition } from '../target/composition-model.ts'
import type { TargetApp } from '../target/model.ts'
import { canonicalJson, sha256 } from './canonical.ts'
import { APP_ID, APP_UUID, HASH, PRIVATE_IPAM, SUPERVISED } from './label-names.ts'
import { networkName, volumeName } from './names.ts'

/** All that is needed to create a network or a volume. */
export interface ObjectSpec<Body> {
  /** As the target calls it. */
  readonly shortName: string
  readonly name: string
  /** Body of NetworkCreate or VolumeCreate. */
  readonly create: Body
  readonly hash: string
}

/**
 * The networks of an app (spec §13.3). There is always a default one; when every service is on the
 * host's network it is there only as a configuration.
 */
export function networkSpecs(app: TargetApp): ObjectSpec<NetworkBody>[] {
  const hostOnly =
    app.services.length > 0 &&
    app.services.every(({ composition }) => composition.network_mode?.kind === 'host')
  const networks = Object.entries({
    default: hostOnly ? { config_only: true } : {},
    ...app.networks,
  })
  return networks.map(([name, composition]) => networkSpec(app, name, composition))
}

function networkSpec(
  app: TargetApp,
  shortName: string,
  asked: NetworkComposition,
): ObjectSpec<NetworkBody> {
  const { driver = 'bridge', ipam, labels = {}, driver_opts: options = {} } = asked
  const pools = ipam?.config?.map((pool) => ({
    ...(pool.subnet === undefined ? {} : { Subnet: pool.subnet }),
    ...(pool.gateway === undefined ? {} : { Gateway: pool.gateway }),
    ...(pool.ip_range === undefined ? {} : { IPRange: pool.ip_range }),
    ...(pool.aux_addresses === undefined ? {} : { AuxiliaryAddresses: pool.aux_addresses }),
  }))
  const hash = sha256(canonicalJson({ ...asked, driver, labels, driver_opts: options }))
  const name = networkName(app.uuid, shortName)
  const configOnly = asked.config_only ?? false
  return {
    shortName,
    name,
    hash,
    create: {
      Name: name,
      CheckDuplicate: true,
      // The engine gives a network that is only a configuration a driver of its own.
      ...(configOnly ? { ConfigOnly: true } : { Driver: driver }),
      Internal: asked.internal ?? false,
      EnableIPv6: asked.enable_ipv6 ?? false,
      IPAM: {
        Driver: ipam?.driver ?? 'default',
        Config: pools ?? [],
        ...(ipam?.options === undefined ? {} : { Options: ipam.options }),
      },
      Options: options,
      Labels: {
        ...labels,
        [SUPERVISED]: 'true',
        [APP_ID]: String(app.appId),
        [APP_UUID]: app.uuid,
        ...(pools === undefined ? {} : { [PRIVATE_IPAM]: 'true' }),
        [HASH]: hash,
      },
    },
  }
}

/** The volumes of an app (spec §13.2). Labels are no part of the hash: no data goes for a label. */
export function volumeSpecs(app: TargetApp): ObjectSpec<VolumeBody>[] {
  return Object.entries(app.volumes).map(([name, asked]) => volumeSpec(app, name, asked))
}

function volumeSpec(
  app: TargetApp,
  shortName: string,
  asked: VolumeComposition,
): ObjectSpec<VolumeBody> {
  const { driver = 'local', driver_opts: options = {}, labels = {} } = asked
  const hash = sha256(canonicalJson({ driver, options }))
  const name = volumeName(app.appId, shortName)
  return {
    shortName,
    name,
    hash,
    create: {
      Name: name,
      Driver: driver,
      DriverOpts: options,
      Labels: {
        ...labels,
        [SUPERVISED]: 'true',
        [APP_ID]: String(app.appId),
        [APP_UUID]: app.uuid,
        [HASH]: hash,
      },
    },
  }
}
