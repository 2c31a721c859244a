import type { Context } from 'hono'
import type { EventSink } from '../../../src/events/sink.ts'
import type { PluginEnv } from '../../../src/plugin.ts'
import type { Addresses } from '../host/addresses.ts'
import type { DeviceInfo } from '../host/device-info.ts'
import type { HostConfig } from '../host/host-config.ts'
import type { Journal } from '../host/journal.ts'
import type { Led } from '../host/led.ts'
import type { Power } from '../host/power.ts'
import type { DeviceTags } from '../host/tags.ts'
import type { VpnStatus } from '../host/vpn.ts'
import type { KeyHolder } from '../keys/scopes.ts'
import type { SupervisorKeys } from '../keys/supervisor-keys.ts'
import type { Supervisor } from '../supervisor.ts'
import type { Access } from './access.ts'
import { asApiError } from './errors.ts'

/** The rooms next door, as the API uses them. */
export interface HostParts {
  readonly power: Pick<Power, 'pending' | 'assertAllowed' | 'request'>
  readonly led: Pick<Led, 'blink'>
  readonly hostConfig: Pick<HostConfig, 'read' | 'patch'>
  readonly journal: Pick<Journal, 'read'>
  readonly addresses: Pick<Addresses, 'get'>
  readonly tags: Pick<DeviceTags, 'list' | 'patch'>
  readonly vpn: () => Promise<VpnStatus>
  readonly info: () => Promise<DeviceInfo>
}

/** What the API is made of. What is read with each request is there once the plugin is started. */
export interface ApiParts {
  /** Read with each request. */
  readonly supervisor: Supervisor
  readonly keys: Pick<SupervisorKeys, 'regenerate' | 'keyOf'>
  readonly access: Access
  readonly host: HostParts
  readonly events: EventSink
  /** Read with each request. */
  readonly device: {
    readonly uuid: string
    /** Undefined where the configuration gives none. */
    readonly id: number | undefined
    /** Until a target has another one. */
    readonly name: string
  }
  /** TCP port of the API. */
  readonly port: number
  /** What the API says its version is. */
  readonly version: string
  /** Refuse of a PATCH of host-config what the documentation does not have. */
  readonly strict: boolean
}

type Answer = Response | Promise<Response>

/** A handler that needs no key. */
export type OpenHandler = (c: Context<PluginEnv>) => Answer

/** A handler that knows whose key it was called with. */
export type KeyedHandler = (c: Context<PluginEnv>, holder: KeyHolder) => Answer

/** Finds out who calls, and gives errors of all rooms the API's form. */
export function keyed({ access }: Pick<ApiParts, 'access'>, handler: KeyedHandler): OpenHandler {
  return async (c) => {
    try {
      return await handler(c, access.holderOf(c))
    } catch (thrown) {
      throw asApiError(thrown)
    }
  }
}

/** The name the device has now. */
export function deviceName({ supervisor, device }: ApiParts): string {
  return supervisor.target().target?.deviceName ?? device.name
}
