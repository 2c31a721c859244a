import { DriverError } from '../driver.ts'
import { FAT_CAPACITY, fatImage } from './fat.ts'

/** What a machine is told about itself when it starts. */
export interface Seed {
  /** Id of the workload: cloud-init does its work once for each. */
  readonly id: string
  readonly hostname: string
  readonly env: ReadonlyMap<string, string>
  readonly entrypoint: string
  readonly nics: readonly SeedNic[]
  readonly nameservers: readonly string[]
  readonly mounts: readonly SeedMount[]
}

export interface SeedNic {
  readonly mac: string
  /** With prefix; none where the machine finds its addresses by itself. */
  readonly addresses: readonly string[]
  readonly routes: readonly { readonly to: string; readonly via: string }[]
}

export type SeedMount =
  | { readonly kind: 'disk'; readonly device: string; readonly target: string }
  | { readonly kind: 'share'; readonly tag: string; readonly target: string }

const ENVIRONMENT = '/etc/cvmd/environment'
const ENTRYPOINT = '/var/lib/cloud/scripts/per-boot/cvmd-entrypoint'

/**
 * A disk for cloud-init's NoCloud source (docs.cloud-init.io, "NoCloud": label `CIDATA`, files
 * `meta-data`, `user-data`, `network-config`). Has the environment in it: mode 0600.
 *
 * The environment is in `/etc/cvmd/environment` of the machine, for a shell to read; `SSH_KEY`, as in
 * the reference, is who may log in as root; the entrypoint is started at each boot.
 *
 * @throws {DriverError} `failed` when it does not fit.
 */
export function seedImage(seed: Seed): Uint8Array {
  const files = Object.entries(seedFiles(seed)).map(([name, text]) => {
    return { name, content: new TextEncoder().encode(text) }
  })
  try {
    return fatImage('CIDATA', files)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    const most = `${Math.floor(FAT_CAPACITY / 1024)} KiB`
    const message = `Cannot tell the machine its environment and entrypoint: they are above ${most}`
    throw new DriverError('failed', message)
  }
}

/** JSON, which is YAML too: nothing in it can end a string. */
export function seedFiles(seed: Seed): Readonly<Record<string, string>> {
  const { id, hostname } = seed
  return {
    'meta-data': `${JSON.stringify({ 'instance-id': id, 'local-hostname': hostname })}\n`,
    'user-data': `#cloud-config\n${JSON.stringify(userData(seed))}\n`,
    'network-config': `${JSON.stringify(networkConfig(seed))}\n`,
  }
}

function userData({ hostname, env, entrypoint, mounts }: Seed): object {
  const keys = (env.get('SSH_KEY') ?? '')
    .split(/[\n,]/)
    .map((key) => key.trim())
    .filter((key) => key !== '')
  const disks = mounts.filter((mount) => mount.kind === 'disk')
  return {
    hostname,
    ...(keys.length > 0 && {
      disable_root: false,
      ssh_authorized_keys: keys,
      users: ['default', { name: 'root', ssh_authorized_keys: keys }],
    }),
    // A disk that has a file system keeps it.
    ...(disks.length > 0 && {
      fs_setup: disks.map(({ device }) => ({ device, filesystem: 'ext4', overwrite: false })),
    }),
    ...(mounts.length > 0 && { mounts: mounts.map(mountEntry) }),
    write_files: [
      { path: ENVIRONMENT, permissions: '0600', content: environment(env) },
      ...(entrypoint === ''
        ? []
        : [{ path: ENTRYPOINT, permissions: '0700', content: script(entrypoint) }]),
    ],
  }
}

function mountEntry(mount: SeedMount): readonly string[] {
  return mount.kind === 'disk'
    ? [mount.device, mount.target, 'auto', 'defaults,nofail', '0', '2']
    : [mount.tag, mount.target, 'virtiofs', 'defaults,nofail', '0', '0']
}

/** Names that a shell cannot have are left out. */
function environment(env: ReadonlyMap<string, string>): string {
  return [...env]
    .filter(([name]) => /^[A-Za-z_][A-Za-z0-9_]*$/.test(name))
    .map(([name, value]) => `${name}=${quoted(value)}\n`)
    .join('')
}

/** In the background: the machine has to come up. */
function script(entrypoint: string): string {
  return [
    '#!/bin/sh',
    'set -a',
    `. ${ENVIRONMENT}`,
    'set +a',
    `setsid sh -c ${quoted(entrypoint)} >/dev/console 2>&1 </dev/null &`,
    '',
  ].join('\n')
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`
}

/** Version 2 of cloud-init's network configuration. */
function networkConfig({ nics, nameservers }: Seed): object {
  const ethernets = nics.map(({ mac, addresses, routes }, index) => {
    const name = `eth${index}`
    const nic = {
      match: { macaddress: mac },
      'set-name': name,
      dhcp4: false,
      dhcp6: false,
      addresses,
      routes,
      ...(index === 0 && { nameservers: { addresses: nameservers } }),
    }
    return [name, nic] as const
  })
  return { version: 2, ethernets: Object.fromEntries(ethernets) }
}
