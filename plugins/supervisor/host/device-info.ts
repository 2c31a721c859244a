import { join } from 'node:path'
import { readTextFile } from '../../../src/files/text-file.ts'

const MAX_BYTES = 64 * 1024

/** Where os-release(5) is looked for, the first one counts. */
const OS_RELEASE = ['etc/os-release', 'usr/lib/os-release'] as const

/** How balena names what the runtime calls `process.arch`. */
const ARCHITECTURES: Readonly<Record<string, string>> = {
  x64: 'amd64',
  arm64: 'aarch64',
  arm: 'armv7hf',
  ia32: 'i386',
}

/** What the device is. */
export interface DeviceInfo {
  /** As `balenaOS 2.98.33`; undefined when the system does not say. */
  readonly osVersion: string | undefined
  readonly osVariant: string | undefined
  /** `amd64`, `aarch64`, ... */
  readonly arch: string
  readonly deviceType: string
}

export interface DeviceInfoOptions {
  /** Folder that stands for `/`. */
  readonly root: string
  /** `process.arch`. */
  readonly arch: string
  /** Default: `generic-<arch>`. */
  readonly deviceType?: string | undefined
}

/** Reads what the device is; never rejects. */
export async function readDeviceInfo(options: DeviceInfoOptions): Promise<DeviceInfo> {
  const release = await readOsRelease(options.root)
  const arch = ARCHITECTURES[options.arch] ?? options.arch
  return {
    osVersion: release.get('PRETTY_NAME') || undefined,
    osVariant: release.get('VARIANT_ID') || undefined,
    arch,
    deviceType: options.deviceType ?? `generic-${arch}`,
  }
}

/**
 * The variables of an os-release(5) file: one a line, values as in a shell, bare or in quotes. A
 * line that is none is skipped; never throws.
 */
export function parseOsRelease(text: string): ReadonlyMap<string, string> {
  const values = new Map<string, string>()
  for (const line of text.split('\n')) {
    const [, name, raw] = /^([A-Z][A-Z0-9_]*)=(.*)$/.exec(line.trim()) ?? []
    if (name !== undefined && raw !== undefined) values.set(name, shellValue(raw))
  }
  return values
}

async function readOsRelease(root: string): Promise<ReadonlyMap<string, string>> {
  for (const path of OS_RELEASE) {
    try {
      return parseOsRelease(await readTextFile(join(root, path), MAX_BYTES))
    } catch {
      // Look in the next place.
    }
  }
  return new Map()
}

function shellValue(raw: string): string {
  if (/^'[^']*'$/.test(raw)) return raw.slice(1, -1)
  const double = /^"((?:[^"\\]|\\.)*)"$/.exec(raw)?.[1]
  return (double ?? raw).replace(/\\([\\"'$`])/g, '$1')
}
