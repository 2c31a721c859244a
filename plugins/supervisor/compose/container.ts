import type { ContainerBody } from '../../../src/engine/containers.ts'
import type { HealthcheckComposition } from '../target/composition-model.ts'
import type { TargetApp, TargetService } from '../target/model.ts'
import { type Asked, askFor } from './asked.ts'
import type { Json } from './canonical.ts'
import type { ComposeContext, EngineHealthcheck, ImageFacts } from './context.ts'
import { identify, writeFields } from './identity.ts'
import { FIELDS, HASH, MADE_FROM, NETWORK_OF } from './label-names.ts'
import { mountParts } from './mounts.ts'
import { containerName } from './names.ts'
import { type Connection, networkingParts, portParts } from './networking.ts'

/** All that is needed to create the container of a service. */
export interface ContainerSpec {
  readonly name: string
  /** Body of ContainerCreate (Docker Engine API 1.41 and later). Holds secrets. */
  readonly create: ContainerBody
  readonly hash: string
  /** To connect it to before its first start, in this order. */
  readonly connect: readonly Connection[]
  /** What was asked for and is not given; no values. */
  readonly warnings: readonly string[]
}

/** What is known only when the container is created, and is no part of its identity. */
export interface CreationFacts {
  readonly image: ImageFacts
  /** Id of the container whose network is shared (`network_mode: service:…`). */
  readonly networkContainer?: string
}

/**
 * A service as a container (spec §10 to §13). Its hash follows from the service, the app and the
 * context alone.
 *
 * @throws {TypeError} When it shares a network and no container is given.
 */
export function containerSpec(
  service: TargetService,
  app: TargetApp,
  context: ComposeContext,
  facts: CreationFacts,
): ContainerSpec {
  const { asked, warnings } = askFor(service, app, context)
  const { hash, fields } = identify(asked, context.maskKey)
  const { image, networkContainer } = facts
  const labels = {
    ...asked.labels,
    [HASH]: hash,
    [FIELDS]: writeFields(fields),
    [MADE_FROM]: image.id,
    ...(networkContainer === undefined ? {} : { [NETWORK_OF]: networkContainer }),
  }
  const { EndpointsConfig, NetworkMode, connect } = networkingParts(asked, networkContainer)
  const { Volumes, ...mounts } = mountParts(asked.volumes ?? [], asked.binds)
  // Who shares the network of another container has its names and ports.
  const own = asked.network_mode?.kind !== 'service'
  const { ExposedPorts, PortBindings } = portParts(own ? (asked.ports ?? []) : [])
  const environment = Object.entries(asked.environment).map(([name, value]) => `${name}=${value}`)
  return {
    name: containerName(service, app),
    create: {
      Image: image.id,
      Env: environment.sort(),
      ...defined({
        Tty: asked.tty,
        Cmd: asked.command ?? orUndefined(image.cmd),
        Entrypoint: asked.entrypoint ?? orUndefined(image.entrypoint),
        Labels: labels,
        ExposedPorts,
        Volumes,
        StopSignal: asked.stop_signal,
        StopTimeout: asked.stop_grace_period,
        Hostname: own ? asked.hostname : undefined,
        Domainname: own ? asked.domainname : undefined,
        MacAddress: own ? asked.mac_address : undefined,
        User: asked.user,
        WorkingDir: asked.working_dir,
        Healthcheck: healthcheck(asked.healthcheck, image.healthcheck),
        NetworkingConfig: { EndpointsConfig },
        HostConfig: defined({
          ...mounts,
          NetworkMode,
          PortBindings,
          ...hostConfig(asked, own),
        }),
      }),
    },
    hash,
    connect,
    warnings,
  }
}

/** The rest of HostConfig. */
function hostConfig(asked: Asked, own: boolean): Record<string, Json | undefined> {
  return {
    RestartPolicy: { Name: asked.restart, MaximumRetryCount: 0 },
    Tmpfs: asked.tmpfs,
    Devices: asked.devices?.map(({ host, container, permissions }) => ({
      PathOnHost: host,
      PathInContainer: container,
      CgroupPermissions: permissions,
    })),
    DeviceRequests: asked.gpu ? [{ Count: 1, Capabilities: [['gpu']] }] : undefined,
    Privileged: asked.privileged,
    ReadonlyRootfs: asked.read_only,
    Init: asked.init,
    CapAdd: asked.cap_add,
    CapDrop: asked.cap_drop,
    SecurityOpt: asked.security_opt,
    GroupAdd: asked.group_add,
    Dns: own ? asked.dns : undefined,
    DnsOptions: own ? asked.dns_opt : undefined,
    DnsSearch: own ? asked.dns_search : undefined,
    ExtraHosts: own ? asked.extra_hosts : undefined,
    Sysctls: asked.sysctls,
    Ulimits:
      asked.ulimits &&
      Object.entries(asked.ulimits).map(([Name, { soft, hard }]) => ({
        Name,
        Soft: soft,
        Hard: hard,
      })),
    PidMode: asked.pid,
    PidsLimit: asked.pids_limit,
    IpcMode: asked.ipc,
    UsernsMode: asked.userns_mode,
    CgroupParent: asked.cgroup_parent,
    ShmSize: asked.shm_size,
    Memory: asked.mem_limit,
    MemoryReservation: asked.mem_reservation,
    OomKillDisable: asked.oom_kill_disable,
    OomScoreAdj: asked.oom_score_adj,
    CpuShares: asked.cpu_shares,
    CpuQuota: asked.cpu_quota,
    NanoCpus: asked.cpus,
    CpusetCpus: asked.cpuset,
  }
}

/** The image's, overlaid by what is asked for; without a test there is none (spec §10). */
function healthcheck(
  asked: HealthcheckComposition = {},
  image: EngineHealthcheck = {},
): { readonly [name: string]: Json } {
  const given = defined({
    Test: asked.test,
    Interval: asked.interval,
    Timeout: asked.timeout,
    StartPeriod: asked.start_period,
    Retries: asked.retries,
  })
  const whole = { ...defined({ ...image }), ...given }
  return Array.isArray(whole.Test) && whole.Test.length > 0 ? whole : { Test: ['NONE'] }
}

function orUndefined(list: readonly string[]): readonly string[] | undefined {
  return list.length > 0 ? list : undefined
}

/** Without the members that are undefined. */
function defined(members: Readonly<Record<string, Json | undefined>>): Record<string, Json> {
  const entries = Object.entries(members).filter((entry): entry is [string, Json] => {
    return entry[1] !== undefined
  })
  return Object.fromEntries(entries)
}
