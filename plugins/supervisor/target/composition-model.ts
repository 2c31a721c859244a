/**
 * The compose fields that are supported (spec §10), in one form each: lists are lists, sizes are
 * bytes, times nanoseconds. A field that was not given is absent.
 */
export interface Composition {
  readonly command?: readonly string[]
  readonly entrypoint?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  readonly labels?: Readonly<Record<string, string>>
  readonly user?: string
  readonly working_dir?: string
  readonly hostname?: string
  readonly domainname?: string
  readonly mac_address?: string
  readonly tty?: boolean
  readonly init?: boolean
  readonly privileged?: boolean
  readonly read_only?: boolean
  readonly restart?: RestartPolicy
  readonly stop_signal?: string
  /** Whole seconds. */
  readonly stop_grace_period?: number
  readonly healthcheck?: HealthcheckComposition
  readonly cap_add?: readonly string[]
  readonly cap_drop?: readonly string[]
  readonly security_opt?: readonly string[]
  readonly group_add?: readonly string[]
  readonly devices?: readonly DeviceMapping[]
  readonly dns?: readonly string[]
  readonly dns_opt?: readonly string[]
  readonly dns_search?: readonly string[]
  /** `name:address` each. */
  readonly extra_hosts?: readonly string[]
  readonly network_mode?: NetworkMode
  /** By the name in the app; in the order of attachment. */
  readonly networks?: Readonly<Record<string, NetworkAttachment>>
  readonly ports?: readonly PortMapping[]
  readonly volumes?: readonly VolumeMount[]
  /** Path in the container to mount options (may be empty). */
  readonly tmpfs?: Readonly<Record<string, string>>
  readonly sysctls?: Readonly<Record<string, string>>
  readonly ulimits?: Readonly<Record<string, { readonly soft: number; readonly hard: number }>>
  readonly pid?: string
  readonly ipc?: string
  readonly userns_mode?: string
  readonly cgroup_parent?: string
  readonly pids_limit?: number
  /** Bytes. */
  readonly shm_size?: number
  /** Bytes. */
  readonly mem_limit?: number
  /** Bytes. */
  readonly mem_reservation?: number
  readonly oom_kill_disable?: boolean
  readonly oom_score_adj?: number
  readonly cpu_shares?: number
  /** Microseconds per period. */
  readonly cpu_quota?: number
  /** Billionths of one CPU. */
  readonly cpus?: number
  readonly cpuset?: string
}

export type RestartPolicy = 'no' | 'always' | 'on-failure' | 'unless-stopped'

export type NetworkMode =
  | { readonly kind: 'host' | 'bridge' | 'none' }
  | { readonly kind: 'service'; readonly serviceName: string }

export interface NetworkAttachment {
  readonly aliases?: readonly string[]
  readonly ipv4_address?: string
  readonly ipv6_address?: string
  readonly link_local_ips?: readonly string[]
}

/** Times are nanoseconds. `['NONE']` switches off the check of the image. */
export interface HealthcheckComposition {
  readonly test?: readonly string[]
  readonly interval?: number
  readonly timeout?: number
  readonly start_period?: number
  readonly retries?: number
}

export interface DeviceMapping {
  readonly host: string
  readonly container: string
  /** Some of `rwm`. */
  readonly permissions: string
}

/** One port; ranges are taken apart. */
export interface PortMapping {
  /** Address of the host; empty means all. */
  readonly address: string
  /** 0 lets the engine choose. */
  readonly host: number
  readonly container: number
  readonly protocol: 'tcp' | 'udp' | 'sctp'
}

export type VolumeMount =
  | {
      readonly type: 'named'
      readonly source: string
      readonly target: string
      readonly readOnly: boolean
      /** Volume is not filled with what the image has there. */
      readonly noCopy: boolean
    }
  | { readonly type: 'anonymous'; readonly target: string; readonly readOnly: boolean }
  | {
      readonly type: 'tmpfs'
      readonly target: string
      /** Bytes. */
      readonly size?: number
      /** Permission bits. */
      readonly mode?: number
    }

export interface NetworkComposition {
  readonly driver?: string
  readonly driver_opts?: Readonly<Record<string, string>>
  readonly ipam?: IpamComposition
  readonly enable_ipv6?: boolean
  readonly internal?: boolean
  readonly labels?: Readonly<Record<string, string>>
  readonly config_only?: boolean
}

export interface IpamComposition {
  readonly driver?: string
  readonly config?: readonly {
    readonly subnet?: string
    readonly gateway?: string
    readonly ip_range?: string
    readonly aux_addresses?: Readonly<Record<string, string>>
  }[]
  readonly options?: Readonly<Record<string, string>>
}

export interface VolumeComposition {
  readonly driver?: string
  readonly driver_opts?: Readonly<Record<string, string>>
  readonly labels?: Readonly<Record<string, string>>
}
