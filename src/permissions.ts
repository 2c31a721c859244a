import { dirname, isAbsolute, resolve } from 'node:path'
import { parseAddress } from './config/address.ts'
import { DEFAULT_CONFIG_FILE, runtimeEventsFile } from './config/paths.ts'
import type { Resolved } from './config/resolve.ts'
import type { Machine } from './device/machine.ts'
import { addonFile } from './device/native.ts'
import {
  CCEL_LOG,
  CCEL_TABLE,
  NSM,
  TDX_GUEST,
  TDX_MEASUREMENTS,
  TSM_REPORT,
} from './device/paths.ts'
import type { Permissions } from './plugin.ts'
import type { Prepared } from './prepare.ts'

/** Everything a configuration lets cvmd touch, absolute and sorted. */
export type PermissionList = {
  readonly [Kind in keyof Required<Permissions>]: readonly string[]
} & {
  /** Native code loaded; it reaches the devices among `read` and `write` by itself. */
  readonly ffi: readonly string[]
}

/** Collects the core's own needs and those each enabled plugin declares. */
export function permissionsOf({ resolved, machine, externals }: Prepared): PermissionList {
  const list = { read: new Set<string>(), write: new Set<string>(), net: new Set<string>() }
  // Tells the service manager that the daemon is ready.
  const run = new Set<string>(['systemd-notify'])
  const env = new Set<string>()
  // Who the daemon is decides where its folders are.
  const sys = new Set<string>(['uid'])
  addCore(resolved, list)
  const proves = resolved.plugins.some(
    ({ uses, state }) => state === 'enabled' && uses.includes('attestation'),
  )
  if (proves) addDevices(machine, resolved, list)
  for (const { file } of externals) list.read.add(file.path)
  for (const { plugin, state, config } of resolved.plugins) {
    if (state !== 'enabled') continue
    const declared = plugin.permissions?.(config) ?? {}
    for (const path of declared.read ?? []) list.read.add(absolute(path))
    for (const path of declared.write ?? []) list.write.add(absolute(path))
    for (const host of declared.net ?? []) list.net.add(host)
    for (const program of declared.run ?? []) run.add(program)
    for (const name of declared.env ?? []) env.add(name)
    for (const name of declared.sys ?? []) sys.add(name)
  }
  const asksPeers = resolved.listeners.some(({ auth }) => auth.includes('peer'))
  const sorted = (set: ReadonlySet<string>) => [...set].sort()
  return {
    read: sorted(list.read),
    write: sorted(list.write),
    net: sorted(list.net),
    run: sorted(run),
    env: sorted(env),
    sys: sorted(sys),
    ffi: asksPeers || (proves && machine.transport.kind !== 'simulated') ? [addonFile()] : [],
  }
}

/** What attesting touches on this machine. */
function addDevices(machine: Machine, { core, paths }: Resolved, { read, write }: Sets): void {
  if (machine.transport.kind === 'simulated') return
  const { tdx } = machine
  if (tdx?.canReport) write.add(TDX_GUEST)
  if (tdx?.canQuote) write.add(TSM_REPORT)
  if (tdx) read.add(CCEL_TABLE).add(CCEL_LOG)
  if (tdx?.canExtend) {
    write.add(TDX_MEASUREMENTS)
    // The folder itself may have to be made.
    write.add(dirname(dirname(core.attestation.runtime_events ?? runtimeEventsFile(paths))))
  }
  if (machine.has('nsm')) write.add(NSM)
}

type Sets = Record<'read' | 'write' | 'net', Set<string>>

function addCore(resolved: Resolved, { read, write, net }: Sets): void {
  const { stateDir, runDir } = resolved.paths
  for (const folder of [stateDir, runDir]) {
    read.add(folder)
    write.add(folder)
  }
  // The claim on the state directory is a socket in it.
  net.add(`unix:${stateDir}/lock`)
  const { file } = resolved.source
  // Without a file the default one is looked for at each start.
  read.add(file === '(defaults)' ? DEFAULT_CONFIG_FILE : absolute(file))
  const { password_file: password } = resolved.core.auth
  if (password !== undefined) addReplaced(absolute(password), read, write)
  for (const listener of resolved.listeners) {
    if (listener.unix !== undefined) {
      net.add(`unix:${absolute(listener.unix)}`)
      read.add(dirname(absolute(listener.unix)))
      write.add(dirname(absolute(listener.unix)))
      if (listener.group !== undefined) read.add('/etc/group')
    } else {
      const address = parseAddress(listener.address ?? '')
      if (address)
        net.add(
          `${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`,
        )
    }
    for (const file of [listener.tls?.cert, listener.tls?.key]) {
      if (file !== undefined) addReplaced(absolute(file), read, write)
    }
    for (const file of [listener.tls?.client_ca, listener.tls?.client_crl]) {
      if (file !== undefined) read.add(absolute(file))
    }
  }
}

/** A file that is replaced by rename needs its folder, where the temporary one is made. */
function addReplaced(file: string, read: Set<string>, write: Set<string>): void {
  read.add(dirname(file))
  write.add(dirname(file))
}

function absolute(path: string): string {
  return isAbsolute(path) ? path : resolve(path)
}

/** The flags of `deno run` for this configuration, one per element. */
export function denoFlags({ read, write, net, run, sys, ffi }: PermissionList): string[] {
  // Deno never grants devices to JavaScript; the addon reaches them.
  const grantable = (value: string) => !/^\/(dev|sys|proc)(\/|$)/.test(value)
  const list = (flag: string, values: readonly string[]) => {
    const granted = values.filter(grantable)
    return granted.length === 0 ? [] : [`--allow-${flag}=${granted.join(',')}`]
  }
  return [
    ...list('read', read),
    ...list('write', write),
    ...list('net', net),
    ...list('run', run),
    ...list('ffi', ffi),
    // Overrides are found by listing the environment, which Deno only grants as a whole.
    '--allow-env',
    ...list('sys', sys),
  ]
}

/**
 * The systemd unit for this configuration.
 *
 * @param exec Absolute path of cvmd.
 * @param config Its configuration file; undefined for the default one.
 */
export function systemdUnit(
  permissions: PermissionList,
  exec: string,
  config: string | undefined,
): string {
  const flags = config === undefined ? '' : ` --config ${absolute(config)}`
  const writable = permissions.write.filter((path) => !/^\/(run|var\/lib)\/cvmd$/.test(path))
  const tcp = permissions.net.some((host) => !host.startsWith('unix:'))
  const families = tcp ? 'AF_UNIX AF_INET AF_INET6' : 'AF_UNIX'
  return `${[
    '[Unit]',
    'Description=The daemon between a confidential VM and the people and programs around it',
    'After=network.target',
    '',
    '[Service]',
    'Type=notify',
    '# systemd-notify is a child of the daemon.',
    'NotifyAccess=all',
    `ExecStart=${exec} serve${flags}`,
    `ExecReload=${exec} reload${flags}`,
    'Restart=always',
    'RestartSec=1s',
    'WatchdogSec=30s',
    'TimeoutStopSec=20s',
    '# Another instance, or a configuration that will not get better by trying again.',
    'RestartPreventExitStatus=75 78',
    'WorkingDirectory=/',
    'StateDirectory=cvmd',
    'StateDirectoryMode=0700',
    'RuntimeDirectory=cvmd',
    'UMask=0077',
    'LimitNOFILE=65536',
    'LimitCORE=0',
    '# These would let the environment run code in the daemon.',
    'UnsetEnvironment=BUN_OPTIONS BUN_BE_BUN NODE_OPTIONS',
    '',
    'NoNewPrivileges=yes',
    'CapabilityBoundingSet=',
    'ProtectSystem=strict',
    ...(writable.length > 0 ? [`ReadWritePaths=${writable.map((p) => `-${p}`).join(' ')}`] : []),
    'ProtectHome=yes',
    'PrivateTmp=yes',
    'PrivateMounts=yes',
    'ProtectProc=invisible',
    'ProtectClock=yes',
    'ProtectHostname=yes',
    'ProtectKernelLogs=yes',
    'ProtectKernelModules=yes',
    'ProtectKernelTunables=yes',
    'ProtectControlGroups=yes',
    'DevicePolicy=closed',
    ...devices(permissions).map((path) => `DeviceAllow=${path} rw`),
    `RestrictAddressFamilies=${families}`,
    'RestrictNamespaces=yes',
    'RestrictRealtime=yes',
    'RestrictSUIDSGID=yes',
    'LockPersonality=yes',
    'RemoveIPC=yes',
    'SystemCallArchitectures=native',
    'SystemCallFilter=@system-service',
    'SystemCallFilter=~@privileged @resources',
    'SystemCallErrorNumber=EPERM',
    '# MemoryDenyWriteExecute must stay off: the runtimes compile at run time.',
    '',
    '[Install]',
    'WantedBy=multi-user.target',
  ].join('\n')}\n`
}

function devices({ read, write }: PermissionList): string[] {
  return [...new Set([...read, ...write])].filter((path) => path.startsWith('/dev/'))
}
