import * as v from 'valibot'
import type { KeyOwner } from './generations.ts'

/** What a key opens, as balena's supervisor writes it (spec §2.2). */
export type KeyScope =
  | { readonly type: 'global' }
  | { readonly type: 'app'; readonly appId: number }

/** Whose key a request came with, and what it opens. */
export interface KeyHolder extends KeyOwner {
  readonly scopes: readonly KeyScope[]
}

/**
 * What can be kept from the keys of services although it concerns no app of its own (spec §2.3,
 * §24.2). balena's supervisor lets every key do all of it.
 */
export const CAPABILITIES = [
  // v1/device, v2/device/*, v2/version, v2/local/device-info, GET of host-config
  'device:read',
  'device:blink',
  // reboot and shutdown
  'device:power',
  // PATCH of host-config
  'device:config',
  // v1/update
  'device:update',
  // PATCH of v2/device/tags
  'device:tags',
  // v2/journal-logs and v2/local/logs
  'logs',
  'target:read',
  'target:write',
  // v2/cleanup-volumes
  'volumes:clean',
] as const

/** One of {@link CAPABILITIES}. */
export type Capability = (typeof CAPABILITIES)[number]

const Capabilities = v.pipe(
  v.array(v.picklist(CAPABILITIES)),
  v.maxLength(CAPABILITIES.length),
  v.description('What the keys may be used for beside their own app'),
)

/** A table that says what the keys of services may do beside their own app. */
export const CapabilitiesConfig = v.strictObject({
  all: v.optional(Capabilities, [...CAPABILITIES]),
  services: v.optional(
    v.pipe(
      v.record(
        v.pipe(
          v.string(),
          v.regex(
            /^[0-9]{1,16}(\/[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254})?$/,
            'must be APP or APP/SERVICE',
          ),
        ),
        Capabilities,
      ),
      v.check((services) => Object.keys(services).length <= 1000, 'at most 1000 services'),
      v.description('The same for an app ("101") or one of its services ("101/main")'),
    ),
    {},
  ),
})

export type CapabilitiesConfig = v.InferOutput<typeof CapabilitiesConfig>

/** Whether a key opens an app (spec §2.2). */
export function opensApp({ scopes }: KeyHolder, appId: number): boolean {
  return scopes.some((scope) => scope.type === 'global' || scope.appId === appId)
}

/** Whether a key opens the whole device. */
export function isGlobal({ scopes }: KeyHolder): boolean {
  return scopes.some(({ type }) => type === 'global')
}

/** Whether a key may be used for something beside its app; the global one always. */
export function mayUse(
  holder: KeyHolder,
  capability: Capability,
  config: CapabilitiesConfig,
): boolean {
  if (isGlobal(holder)) return true
  const { services, all } = config
  const own = (name: string) => (Object.hasOwn(services, name) ? services[name] : undefined)
  const granted = own(`${holder.appId}/${holder.service}`) ?? own(String(holder.appId)) ?? all
  return granted.includes(capability)
}
