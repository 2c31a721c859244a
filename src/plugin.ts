import type { ConsolaInstance } from 'consola'
import type { Context, Hono, Schema as HonoSchema } from 'hono'
import type * as v from 'valibot'
import type { AppIdentitySource } from './attester/app-identity.ts'
import type { Attester } from './attester/attester.ts'
import type { ApiError } from './errors.ts'
import type { EventLog } from './events/log.ts'
import type { EventSink } from './events/sink.ts'
import type { Gpus } from './gpu/gpus.ts'
import type { PluginMetrics } from './metrics.ts'
import type { DaemonState } from './reports.ts'

/** The contract version this core speaks; a plugin that carries another one is refused. */
export const API_VERSION = 1

/** A thing of the machine a plugin may need. `path:/dev/x` asks for any other device node. */
export type Capability = 'tdx' | 'tsm' | 'nsm' | 'gpu' | `path:/${string}`

/** A requirement is data, so it can be listed for a plugin that cannot run here. */
export type Requirement =
  | Capability
  | { readonly any: readonly Requirement[] }
  | { readonly all: readonly Requirement[] }

/**
 * What plugins and the core offer each other, by name. A plugin adds its own key by declaration
 * merging and names what it needs in `uses`.
 */
export interface Services {
  /** The event ring, its chain and its journal. Provided by the core. */
  readonly eventLog: EventLog
  /** What this machine can prove about itself. Provided by the core. */
  readonly attestation: Attester
  /** The GPUs of this machine, and who has them. Provided by the core. */
  readonly gpus: Gpus
  /** How the daemon's plugins are. Provided by the core. */
  readonly daemon: DaemonState
  /** Who the application in this VM is. Provided by the plugin `guest`. */
  readonly appIdentity: AppIdentitySource
}

/** Who sends a request, as far as the listener could establish it. */
export interface Caller {
  /** `anonymous` where the listener asks for nothing; `own` where the plugin authenticates. */
  readonly kind: 'anonymous' | 'basic' | 'key' | 'certificate' | 'peer' | 'own'
  /** Name for logs and audit: the Basic user, or the name a key, certificate or peer goes by. */
  readonly name: string
  /** Granted scopes; `*` grants all. See `src/auth/scopes.ts`. */
  readonly scopes: readonly string[]
}

/** The other end of a connection. */
export interface Peer {
  /** IP address, or `unix` on a Unix socket. */
  readonly address: string
  /** TCP port, 0 on a Unix socket. */
  readonly port: number
}

/** What the core knows about a request beside the request itself: a plugin reads it as `c.env`. */
export interface RequestFacts {
  /** The listener's name: `127.0.0.1:3535` or `unix:/run/cvmd/cvmd.sock`. */
  readonly listener: string
  /** Set by the core before any route runs. */
  readonly caller: Caller
  /** The other end; computed when asked for. */
  peer(): Peer
  /** Lifts the idle and whole-request limits, for streams that may stay silent. */
  hold(): void
}

/** The Hono environment of every plugin: `new Hono<PluginEnv>()` types `c.env`. */
export interface PluginEnv {
  Bindings: RequestFacts
}

// biome-ignore lint/suspicious/noExplicitAny: the bound every Hono application satisfies
export type AnyApp = Hono<any, HonoSchema & any, any>

/** Everything a plugin touches outside its own memory, as data, per configuration. */
export interface Permissions {
  /** Files and folders read, absolute. */
  readonly read?: readonly string[]
  /** Files and folders written, absolute. */
  readonly write?: readonly string[]
  /** Hosts dialled, `host` or `host:port` or `unix:/path`. */
  readonly net?: readonly string[]
  /** Programs run. */
  readonly run?: readonly string[]
  /** Environment variables read. */
  readonly env?: readonly string[]
  /** What of the system is asked for, in Deno's words: `networkInterfaces`, `statfs`. */
  readonly sys?: readonly string[]
}

/** What a probe found; see `src/device/`. */
export interface Device {
  /** Whether this machine satisfies a requirement. */
  has(requirement: Requirement): boolean
  /** A device path below the probing root (`--root`, for fixture trees). */
  path(path: `/${string}`): string
}

/** What `setup` receives. */
export interface PluginContext<Config, Uses extends keyof Services = never> {
  /** The table `[plugins.<name>]`, validated, defaults filled in. */
  readonly config: Config
  /** Only the services `uses` names. */
  readonly services: Pick<Services, Uses>
  readonly device: Device
  /** The plugin's own folder for state: absolute, mode 0700, made before `start`. */
  readonly stateDir: string
  /** Appends to the event log, stamped and tagged with the plugin's name. */
  readonly events: EventSink
  /** Counters and gauges shown at `/cvmd/metrics`. */
  readonly metrics: PluginMetrics
  /** Tagged with the plugin's name. */
  readonly log: ConsolaInstance
  /** Aborts when shutdown of this plugin begins. */
  readonly signal: AbortSignal
}

/** What `setup` returns. */
export interface PluginInstance<App extends AnyApp = AnyApp> {
  /** The plugin's routes, paths full and literal. */
  readonly routes: App
  /** Services for others, by name. */
  readonly provides?: Partial<Services>
  /** Opens what the plugin needs; routes answer 503 until it resolved. */
  start?(): void | Promise<void>
  /** Releases it; safe without `start`, twice, and after a failed start. */
  stop?(): void | Promise<void>
  /** Why the plugin cannot serve just now, for `/cvmd/ready`; undefined when it can. */
  notReady?(): string | undefined
}

/** Where a plugin listens that has addresses of its own. */
export interface OwnAddress {
  /** `127.0.0.1:48484`. */
  readonly address: string
  /** The address may not be there yet, such as that of a network somebody has still to make. */
  readonly late?: boolean
}

/** Data, or what gives it for a checked configuration. */
export type ByConfig<Schema extends v.GenericSchema, T> =
  | T
  // A method's parameters vary both ways, so that any plugin is an AnyPlugin.
  | { of(config: v.InferOutput<Schema>): T }['of']

/** What an author writes; {@link definePlugin} adds the contract version. */
export interface PluginDefinition<
  Name extends string,
  Schema extends v.GenericSchema,
  App extends AnyApp,
  Uses extends keyof Services,
> {
  /** Folder, configuration table and log tag: `[a-z][a-z0-9-]*`. */
  readonly name: Name
  /** One line for `cvmd plugins` and `GET /cvmd/plugins`. */
  readonly summary: string
  /** A valibot `strictObject`: the table `[plugins.<name>]`, every key with a default. */
  readonly config: Schema
  /** Absent means any machine. A function where it depends on the configuration. */
  readonly requires?: ByConfig<Schema, Requirement | undefined>
  /**
   * It can be started before what it requires is there, and is not ready until it is: then
   * `enabled = true` is no error where it is missing.
   */
  readonly waits?: boolean
  /**
   * Services needed; also gives the start order. With a function, `setup` gets only those that it
   * names for the configuration at hand.
   */
  readonly uses?: ByConfig<Schema, readonly Uses[]>
  /** Services it gives while enabled, so that who uses them is left out where it is not. */
  readonly provides?: readonly (keyof Services)[]
  /**
   * `local` (the default) serves on Unix sockets only; `network` also on TCP, but for routes that
   * say `exposure: 'local'` themselves.
   */
  readonly exposure?: 'local' | 'network'
  /**
   * Whom it serves where no listener names it: the operator, applications of the guest, or whoever
   * comes to its own {@link addresses}. Of a plugin that is not the operator's, an operator's
   * listener has the routes below `/cvmd/` and those for operators alone unless it names it.
   * Default: `operator`.
   */
  readonly home?: 'operator' | 'guest' | 'own'
  /** With `home: 'own'`: where it listens when the file lists no `[[listen]]`. */
  readonly addresses?: ByConfig<Schema, readonly OwnAddress[]>
  /** `own`: the plugin authenticates its callers, the listener's `auth` is not applied. */
  readonly auth?: 'listener' | 'own'
  /** What it touches with this configuration; printed by `cvmd permissions`. */
  permissions?(config: v.InferOutput<Schema>): Permissions
  /** Only for an API with an error dialect of its own. */
  renderError?(error: ApiError, c: Context): Response
  /** Pure: builds the routes, opens no file, socket, timer or process. */
  setup(ctx: PluginContext<v.InferOutput<Schema>, Uses>): PluginInstance<App>
}

/** A plugin as the core takes it. */
export interface Plugin<
  Name extends string = string,
  Schema extends v.GenericSchema = v.GenericSchema,
  App extends AnyApp = AnyApp,
  Uses extends keyof Services = keyof Services,
> extends PluginDefinition<Name, Schema, App, Uses> {
  readonly apiVersion: typeof API_VERSION
}

/** The core's view of any plugin, whatever its types. */
// biome-ignore lint/suspicious/noExplicitAny: configuration and services differ per plugin
export type AnyPlugin = Plugin<string, any, AnyApp, any>

/** Where a plugin is at home; see {@link PluginDefinition.home}. */
export function homeOf({ home = 'operator' }: AnyPlugin): 'operator' | 'guest' | 'own' {
  return home
}

/** Declares a plugin; returns its argument plus the contract version, fully typed. */
export function definePlugin<
  const Name extends string,
  Schema extends v.GenericSchema,
  App extends AnyApp,
  Uses extends keyof Services = never,
>(definition: PluginDefinition<Name, Schema, App, Uses>): Plugin<Name, Schema, App, Uses> {
  return { ...definition, apiVersion: API_VERSION }
}

/** The routes of a plugin, for `hc<RoutesOf<typeof hello>>()`. */
export type RoutesOf<P> =
  P extends Plugin<string, v.GenericSchema, infer App, infer _Uses> ? App : never

/** The configuration a plugin receives. */
export type ConfigOf<P> =
  P extends Plugin<string, infer Schema, AnyApp, infer _Uses> ? v.InferOutput<Schema> : never
