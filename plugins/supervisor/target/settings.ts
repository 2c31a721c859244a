import { isTruthy } from './labels.ts'

/** The configuration variables of spec §18 that mean something here. Times are milliseconds. */
export interface Settings {
  readonly pollIntervalMs: number
  /** `/v1/update` triggers an update. */
  readonly instantUpdates: boolean
  readonly localMode: boolean
  readonly connectivityCheck: boolean
  readonly logControl: boolean
  readonly apiRequestTimeoutMs: number
  /** Update locks are ignored. */
  readonly overrideLock: boolean
  readonly persistentLogging: boolean
  readonly vpnControl: boolean
  readonly hardwareMetrics: boolean
}

const POLL_INTERVAL = 'SUPERVISOR_POLL_INTERVAL'
const REQUEST_TIMEOUT = 'SUPERVISOR_API_REQUEST_TIMEOUT'
const OVERRIDE_LOCK = 'SUPERVISOR_OVERRIDE_LOCK'

/** Every variable with its default (spec §18), in the order of the spec. */
const DEFAULTS: Readonly<Record<string, string>> = {
  [POLL_INTERVAL]: '900000',
  SUPERVISOR_INSTANT_UPDATE_TRIGGER: 'true',
  SUPERVISOR_LOCAL_MODE: 'false',
  SUPERVISOR_CONNECTIVITY_CHECK: 'true',
  SUPERVISOR_LOG_CONTROL: 'true',
  [REQUEST_TIMEOUT]: '59000',
  SUPERVISOR_DELTA: 'false',
  SUPERVISOR_DELTA_REQUEST_TIMEOUT: '59000',
  SUPERVISOR_DELTA_APPLY_TIMEOUT: '0',
  SUPERVISOR_DELTA_RETRY_COUNT: '30',
  SUPERVISOR_DELTA_RETRY_INTERVAL: '10000',
  SUPERVISOR_DELTA_VERSION: '2',
  [OVERRIDE_LOCK]: 'false',
  SUPERVISOR_PERSISTENT_LOGGING: 'false',
  SUPERVISOR_VPN_CONTROL: 'true',
  HOST_FIREWALL_MODE: 'off',
  HOST_DISCOVERABILITY: 'true',
  SUPERVISOR_HARDWARE_METRICS: 'true',
}

const FIREWALL_MODES: ReadonlySet<string> = new Set(['on', 'off', 'auto'])

/** Timers of JavaScript count in 31 bits. */
const MAX_MS = 2 ** 31 - 1

/**
 * The variables as they take effect: without the prefixes `BALENA_` and `RESIN_`, the defaults
 * where one is missing or not valid. Variables that are not known here stay as they are.
 */
export function effectiveConfig(config: Readonly<Record<string, string>>): Record<string, string> {
  const bare = new Map<string, string>()
  for (const [name, value] of Object.entries(config)) {
    bare.set(name.replace(/^(?:BALENA|RESIN)_/, ''), value)
  }
  // Before there was a prefix for it.
  const legacy = bare.get('OVERRIDE_LOCK')
  if (legacy !== undefined && !bare.has(OVERRIDE_LOCK)) bare.set(OVERRIDE_LOCK, legacy)
  bare.delete('OVERRIDE_LOCK')
  for (const [name, fallback] of Object.entries(DEFAULTS)) {
    const value = bare.get(name)
    if (value === undefined || !isValid(name, value, fallback)) bare.set(name, fallback)
  }
  return Object.fromEntries(bare)
}

/** What the variables mean. */
export function readSettings(config: Readonly<Record<string, string>>): Settings {
  const effective = effectiveConfig(config)
  const flag = (name: string) => isTruthy(effective[name])
  return {
    pollIntervalMs: Number(effective[POLL_INTERVAL]),
    instantUpdates: flag('SUPERVISOR_INSTANT_UPDATE_TRIGGER'),
    localMode: flag('SUPERVISOR_LOCAL_MODE'),
    connectivityCheck: flag('SUPERVISOR_CONNECTIVITY_CHECK'),
    logControl: flag('SUPERVISOR_LOG_CONTROL'),
    apiRequestTimeoutMs: Number(effective[REQUEST_TIMEOUT]),
    overrideLock: flag(OVERRIDE_LOCK),
    persistentLogging: flag('SUPERVISOR_PERSISTENT_LOGGING'),
    vpnControl: flag('SUPERVISOR_VPN_CONTROL'),
    hardwareMetrics: flag('SUPERVISOR_HARDWARE_METRICS'),
  }
}

/** Of the kind its default is. */
function isValid(name: string, value: string, fallback: string): boolean {
  if (name === 'HOST_FIREWALL_MODE') return FIREWALL_MODES.has(value)
  if (fallback === 'true' || fallback === 'false') {
    return ['true', 'false', '1', '0', 'on', 'off'].includes(value.toLowerCase())
  }
  if (!/^[0-9]{1,10}$/.test(value) || Number(value) > MAX_MS) return false
  // A device that polls all the time would be of no use to anybody.
  return name !== POLL_INTERVAL || Number(value) >= 1000
}
