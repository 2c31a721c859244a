/** What is known of the device and its policy, beside the target. */
export interface ComposeContext {
  readonly device: {
    readonly uuid: string
    readonly name: string
    /** Of the machine: what a service on the host's network gets that asks for no other. */
    readonly hostname?: string
    readonly type: string
    readonly arch: string
    readonly osVersion: string
    /** For `io.balena.features.host-os.board-rev`. */
    readonly boardRev?: string
    readonly osBuild?: string
  }
  readonly api: {
    readonly port: number
    /** The key of one service; asked only for services with the label for it. */
    keyOf(appId: number, serviceName: string): string
  }
  /** For `io.balena.features.balena-api`; absent: there is none, and a warning says so. */
  readonly balenaApi?: { readonly url: string; readonly key: string }
  /** Address of the supervisor network's gateway (spec §13.4). */
  readonly gateway: string
  /** Folder of the host with `<appId>/<serviceName>/` (spec §8.1). */
  readonly lockRoot: string
  /** Path of the engine's socket on the host. */
  readonly engineSocket: string
  /** Whether a service may get that socket by label. */
  readonly allowEngineSocket: boolean
  /** Whether a path exists on the host: the engine would make a folder of a missing one. */
  hostHas(path: string): boolean
  /** Key that masks values in the label of fields; at most 64 bytes. Without it they are hashed bare. */
  readonly maskKey?: Uint8Array
}

/** What the engine says of the image that a container is made from. */
export interface ImageFacts {
  /** `sha256:…` */
  readonly id: string
  /** `NAME=value` each. */
  readonly env: readonly string[]
  readonly cmd: readonly string[]
  readonly entrypoint: readonly string[]
  readonly labels: Readonly<Record<string, string>>
  readonly stopSignal: string | undefined
  /** In the engine's own form (`Test`, `Interval`, …). */
  readonly healthcheck: EngineHealthcheck | undefined
}

/** The engine's form; times are nanoseconds. */
export interface EngineHealthcheck {
  readonly Test?: readonly string[]
  readonly Interval?: number
  readonly Timeout?: number
  readonly StartPeriod?: number
  readonly Retries?: number
}
