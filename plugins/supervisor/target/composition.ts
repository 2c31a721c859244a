import { shellWords } from '../../../src/shell-words.ts'
import type { Composition, DeviceMapping, RestartPolicy } from './composition-model.ts'
import { readHealthcheck } from './healthcheck.ts'
import { MAX_VALUE, MAX_VARIABLES } from './limits.ts'
import { mountPath, readMounts } from './mounts.ts'
import { ADDRESS, readAttachments, readNetworkMode } from './networks.ts'
import { isObject, type JsonObject, type Place } from './place.ts'
import { readPorts } from './ports.ts'
import { readBytes, readDuration, readNumber } from './units.ts'
import {
  readFlag,
  readInteger,
  readList,
  readMap,
  readText,
  readWord,
  readWords,
} from './values.ts'

type Reader = (value: unknown, place: Place) => unknown

const WORD = /^[^\s\0]{1,4096}$/
const CAPABILITY = /^[a-zA-Z_]{1,64}$/
const HOST_NAME = /^[a-zA-Z0-9]([a-zA-Z0-9.-]{0,251}[a-zA-Z0-9])?$/
const EXTRA_HOST = /^[^\s:=]{1,255}[:=][^\s=]{1,64}$/
const MAC = /^[0-9a-fA-F]{2}(?:[:-][0-9a-fA-F]{2}){5}$/
const CPU_SET = /^[0-9]{1,5}(?:[,-][0-9]{1,5}){0,255}$/
const SIGNAL = /^[A-Z0-9+-]{1,16}$/i
const INT32 = 2 ** 31 - 1

const words =
  (form: RegExp): Reader =>
  (value, place) =>
    readWords(value, place, form)
const word =
  (form: RegExp): Reader =>
  (value, place) =>
    readWord(value, place, form)
const integer =
  (least: number, most: number): Reader =>
  (value, place) =>
    readInteger(value, place, least, most)

/** Every supported field of a composition (spec §10). */
const READERS: { readonly [Field in keyof Composition]-?: Reader } = {
  command: readCommand,
  entrypoint: readCommand,
  environment: (value, place) => readMap(value, place, MAX_VARIABLES),
  labels: (value, place) => readMap(value, place, MAX_VARIABLES),
  user: word(/^[^\s\0]{1,255}$/),
  working_dir: word(/^\/[^\0]*$/),
  hostname: word(HOST_NAME),
  domainname: word(HOST_NAME),
  mac_address: word(MAC),
  tty: readFlag,
  init: readFlag,
  privileged: readFlag,
  read_only: readFlag,
  restart: readRestart,
  stop_signal: word(SIGNAL),
  stop_grace_period: readGracePeriod,
  healthcheck: readHealthcheck,
  cap_add: words(CAPABILITY),
  cap_drop: words(CAPABILITY),
  security_opt: readSecurityOptions,
  group_add: words(/^[^\s\0]{1,255}$/),
  devices: (value, place) => readList(value, place, readDevice),
  dns: words(ADDRESS),
  dns_opt: words(WORD),
  dns_search: words(WORD),
  extra_hosts: readExtraHosts,
  network_mode: readNetworkMode,
  networks: readAttachments,
  ports: readPorts,
  volumes: readMounts,
  tmpfs: readTmpfs,
  sysctls: (value, place) => readMap(value, place, MAX_VARIABLES),
  ulimits: readUlimits,
  pid: word(/^host$/),
  ipc: word(/^(?:host|none|private|shareable)$/),
  userns_mode: word(/^host$/),
  cgroup_parent: word(WORD),
  pids_limit: integer(-1, INT32),
  shm_size: readSize,
  mem_limit: readSize,
  mem_reservation: readSize,
  oom_kill_disable: readFlag,
  oom_score_adj: integer(-1000, 1000),
  cpu_shares: integer(0, 262_144),
  cpu_quota: integer(-1, INT32),
  cpus: readCpus,
  cpuset: word(CPU_SET),
}

/** Read elsewhere, so nothing is lost when they are not read here. */
const ELSEWHERE: ReadonlySet<string> = new Set(['depends_on', 'image', 'running', 'container_name'])

/**
 * The supported fields of a service's composition. Whatever is not supported, or not understood, is
 * left out with a warning (spec §10); ports that cannot be read are issues.
 *
 * @param ignored Members that are no composition fields.
 */
export function readComposition(
  value: JsonObject,
  place: Place,
  ignored: ReadonlySet<string> = new Set(),
): Composition {
  const found: Record<string, unknown> = {}
  for (const [field, given] of Object.entries(value)) {
    if (ignored.has(field) || ELSEWHERE.has(field) || given === null) continue
    const at = place.in(field)
    const reader = Object.hasOwn(READERS, field) ? READERS[field as keyof Composition] : undefined
    if (reader === undefined) {
      at.warn('is left out: it is not supported')
      continue
    }
    const taken = reader(given, at)
    if (taken !== undefined) found[field] = taken
  }
  return found
}

function readCommand(value: unknown, place: Place): string[] | undefined {
  if (typeof value !== 'string') {
    return readList(value, place, (part, at) => readText(part, at, MAX_VALUE))
  }
  const text = readText(value, place, MAX_VALUE)
  if (text === undefined) return undefined
  const parts = shellWords(text)
  if (parts === undefined) return place.warn('is left out: a quote in it is not closed')
  return parts.length > 0 ? parts : undefined
}

const RESTARTS: ReadonlySet<unknown> = new Set(['no', 'always', 'on-failure', 'unless-stopped'])

/** Anything else is `always` (spec §14). YAML reads a bare `no` as false. */
function readRestart(value: unknown, place: Place): RestartPolicy {
  if (RESTARTS.has(value)) return value as RestartPolicy
  if (value === false) return 'no'
  place.warn('counts as "always": it is none of "no", "always", "on-failure", "unless-stopped"')
  return 'always'
}

function readGracePeriod(value: unknown, place: Place): number | undefined {
  const seconds = readNumber(value) ?? (readDuration(value) ?? Number.NaN) / 1e9
  if (seconds >= 0 && seconds <= INT32) return Math.ceil(seconds)
  return place.warn('is left out: it must be a time such as "1m30s"')
}

function readSize(value: unknown, place: Place): number | undefined {
  return readBytes(value) ?? place.warn('is left out: it must be a size such as "64m"')
}

function readCpus(value: unknown, place: Place): number | undefined {
  const cpus = readNumber(value)
  if (cpus !== undefined && cpus >= 0 && cpus <= 65_536) return Math.round(cpus * 1e9)
  return place.warn('is left out: it must be a number of processors')
}

/** Labels of SELinux cannot be given (spec §10). */
function readSecurityOptions(value: unknown, place: Place): string[] | undefined {
  return readList(value, place, (option, at) => {
    const text = readText(option, at, MAX_VALUE)
    if (text === undefined || !/^label[=:]/.test(text)) return text
    return at.warn('is left out: labels are not supported')
  })
}

const DEVICE_PATH = /^\/[^\s\0:]{1,4095}$/

/** `host[:container[:rwm]]`, or the long form. */
function readDevice(value: unknown, place: Place): DeviceMapping | undefined {
  const text = isObject(value)
    ? [value.source, value.target ?? value.source, value.permissions ?? 'rwm'].join(':')
    : readText(value, place)
  if (text === undefined) return undefined
  const [host = '', container = host, permissions = 'rwm', ...rest] = text.split(':')
  if (!DEVICE_PATH.test(host) || rest.length > 0 || !/^[rwm]{1,3}$/.test(permissions)) {
    return place.warn('is left out: it must be "/dev/name[:path[:rwm]]"')
  }
  const path = mountPath(container)
  if (path === undefined) return place.warn('is left out: it must have an absolute path')
  return { host, container: path, permissions }
}

/** `name:address` or `name=address` each, or a map. */
function readExtraHosts(value: unknown, place: Place): string[] | undefined {
  if (isObject(value)) {
    const map = readMap(value, place, MAX_VARIABLES)
    return map && Object.entries(map).map(([name, address]) => `${name}:${address}`)
  }
  return readWords(value, place, EXTRA_HOST)?.map((host) => host.replace(/[:=]/, ':'))
}

/** `path[:options]` each. */
function readTmpfs(value: unknown, place: Place): Record<string, string> | undefined {
  const mounts = readList(value, place, (element, at): [string, string] | undefined => {
    const [path = '', ...options] = (readText(element, at) ?? '').split(':')
    const target = mountPath(path)
    if (target !== undefined) return [target, options.join(':')]
    return at.warn('is left out: it must be an absolute path')
  })
  return mounts && Object.fromEntries(mounts)
}

/** A number for both limits, or `{soft, hard}`; -1 is none. */
function readUlimits(
  value: unknown,
  place: Place,
): Record<string, { soft: number; hard: number }> | undefined {
  if (!isObject(value)) return place.warn('is left out: it must be an object')
  const limits: Record<string, { soft: number; hard: number }> = {}
  for (const [name, limit] of Object.entries(value).slice(0, 32)) {
    const at = place.in(name)
    if (!/^[a-z]{1,16}$/.test(name)) {
      at.warn('is left out: it is no name of a limit')
      continue
    }
    const both = isObject(limit) ? limit : { soft: limit, hard: limit }
    const soft = readInteger(both.soft, at, -1, Number.MAX_SAFE_INTEGER)
    const hard = readInteger(both.hard, at, -1, Number.MAX_SAFE_INTEGER)
    if (soft !== undefined && hard !== undefined) limits[name] = { soft, hard }
  }
  return Object.keys(limits).length > 0 ? limits : undefined
}
