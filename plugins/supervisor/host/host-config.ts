import { messageOf } from '../../../src/errors.ts'
import type { HostConfigInput, ProxyInput } from './host-config-input.ts'
import { HostError } from './host-error.ts'
import { Hostname, type HostnameOptions } from './hostname.ts'
import { ProxyFiles, parseNoProxy, renderNoProxy } from './proxy-files.ts'
import { type ProxySettings, parseRedsocks, renderRedsocks } from './redsocks.ts'
import type { Systemd } from './systemd.ts'

/** Of each group the first unit that can be restarted is (spec §20.4). */
export const PROXY_UNITS = [['balena-proxy-config', 'resin-proxy-config'], ['redsocks']] as const

/** A unit of this target is restarted by the system itself when a file changes. */
const WATCHED_TARGET = 'redsocks-conf.target'

/** Characters of the device's UUID that make the default name (spec §20.2). */
const DEFAULT_NAME_LENGTH = 7

export interface HostConfigOptions {
  /** Folder of `redsocks.conf` and `no_proxy`: `system-proxy` on the boot partition. */
  readonly proxyFolder: string
  /** Permission bits of those files when they are new: redsocks.conf may hold a password. */
  readonly proxyFileMode?: number | undefined
  readonly hostname: HostnameOptions
  /** UUID of the device. */
  readonly uuid: () => string
  readonly systemd: Systemd
  /** What is restarted when the proxy changed; default {@link PROXY_UNITS}. */
  readonly proxyUnits?: readonly (readonly string[])[] | undefined
}

/** What `GET /v1/device/host-config` answers (spec §4.12). */
export interface HostConfigView {
  readonly network: {
    readonly hostname: string
    /** Absent when neither a proxy nor an exception is set. */
    readonly proxy?: ProxySettings & { readonly noProxy?: readonly string[] }
  }
}

/** What a PATCH did. */
export interface HostConfigOutcome {
  /** Empty when all was so already. */
  readonly changed: readonly ('proxy' | 'no_proxy' | 'hostname')[]
  /** What is stored but not in force yet, and why. */
  readonly warnings: readonly string[]
}

/** What is to be written: a missing member stays as it is. */
interface Plan {
  readonly redsocks?: { readonly text: string | undefined }
  readonly noProxy?: { readonly text: string | undefined }
  readonly hostname?: string
}

/** The host's proxy and its name (spec §20). */
export class HostConfig {
  readonly #options: HostConfigOptions
  readonly #files: ProxyFiles
  readonly #hostname: Hostname
  #last: Promise<unknown> = Promise.resolve()

  constructor(options: HostConfigOptions) {
    this.#options = options
    this.#files = new ProxyFiles(options.proxyFolder, options.proxyFileMode ?? 0o600)
    this.#hostname = new Hostname(options.hostname)
  }

  /** Removes what a crash left. @throws {HostError} 503 when it cannot. */
  start(): Promise<void> {
    return attempt('prepare the host configuration', () => this.#files.clean())
  }

  /** @throws {HostError} 503 when a file cannot be read. */
  read(): Promise<HostConfigView> {
    return attempt('read the host configuration', async () => {
      const redsocks = await this.#files.read('redsocks.conf')
      const noProxy = parseNoProxy((await this.#files.read('no_proxy')) ?? '')
      const hostname = await this.#hostname.read()
      if (redsocks === undefined && noProxy.length === 0) return { network: { hostname } }
      const proxy = {
        ...parseRedsocks(redsocks ?? ''),
        ...(noProxy.length === 0 ? {} : { noProxy }),
      }
      return { network: { hostname, proxy } }
    })
  }

  /**
   * Changes what differs, one PATCH at a time.
   *
   * @param locked Does the change while no app minds; called only when there is one.
   * @throws {HostError} 503 when a file or unit fails.
   * @throws What `locked` throws; nothing is changed then.
   */
  patch(
    input: HostConfigInput,
    locked: (work: () => Promise<void>) => Promise<void>,
  ): Promise<HostConfigOutcome> {
    const run = this.#last.then(async () => {
      const plan = await attempt('read the host configuration', () => this.#plan(input))
      const changed = [
        ...(plan.redsocks ? (['proxy'] as const) : []),
        ...(plan.noProxy ? (['no_proxy'] as const) : []),
        ...(plan.hostname === undefined ? [] : (['hostname'] as const)),
      ]
      const warnings: string[] = []
      if (changed.length === 0) return { changed, warnings }
      await locked(() =>
        attempt('change the host configuration', () => this.#apply(plan, warnings)),
      )
      return { changed, warnings }
    })
    this.#last = run.catch(() => undefined)
    return run
  }

  async #plan({ proxy, hostname }: HostConfigInput): Promise<Plan> {
    const redsocks = await this.#files.read('redsocks.conf')
    const noProxy = await this.#files.read('no_proxy')
    const wanted = proxy && merged(redsocks, proxy)
    const exceptions = proxy?.noProxy && { text: renderNoProxy(proxy.noProxy) }
    const name = hostname === '' ? this.#defaultName() : hostname
    const rename = name !== undefined && name !== (await this.#hostname.read())
    return {
      ...(wanted && wanted.text !== redsocks ? { redsocks: wanted } : {}),
      ...(exceptions && exceptions.text !== noProxy ? { noProxy: exceptions } : {}),
      ...(rename ? { hostname: name } : {}),
    }
  }

  async #apply(plan: Plan, warnings: string[]): Promise<void> {
    if (plan.redsocks) await this.#files.write('redsocks.conf', plan.redsocks.text)
    if (plan.noProxy) await this.#files.write('no_proxy', plan.noProxy.text)
    if (plan.hostname !== undefined) {
      const warning = await this.#hostname.write(plan.hostname)
      if (warning !== undefined) warnings.push(warning)
    }
    // Last: a restart may cut the connection this is asked for on.
    if (plan.redsocks || plan.noProxy) await this.#restartUnits()
  }

  async #restartUnits(): Promise<void> {
    const { systemd, proxyUnits = PROXY_UNITS } = this.#options
    for (const units of proxyUnits) {
      const [first] = units
      if (first === undefined || (await systemd.isPartOf(first, WATCHED_TARGET))) continue
      await systemd.restartOneOf(units)
    }
  }

  #defaultName(): string {
    return this.#options.uuid().slice(0, DEFAULT_NAME_LENGTH)
  }
}

/** The file after a change; undefined when nothing is asked of it. */
function merged(
  current: string | undefined,
  { clear, settings, dns }: ProxyInput,
): { readonly text: string | undefined } | undefined {
  if (clear) return { text: undefined }
  const touches = Object.keys(settings).length > 0
  // Where DNS goes means nothing without a proxy.
  if (!touches && (dns === undefined || current === undefined)) return undefined
  const { dns: before, ...fields } = parseRedsocks(current ?? '')
  const now = dns ?? before
  const all = { ...fields, ...settings, ...(typeof now === 'string' ? { dns: now } : {}) }
  const text = renderRedsocks(all)
  // A file somebody wrote by hand stays as it is while it says the same.
  const same = current !== undefined && renderRedsocks(parseRedsocks(current)) === text
  return same ? undefined : { text }
}

async function attempt<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    if (cause instanceof HostError) throw cause
    const message = `Cannot ${what}: ${messageOf(cause)}`
    throw new HostError('HOST_CONFIG_FAILED', 503, message, { cause })
  }
}
