import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { PeerReader } from '../http/unix-peers.ts'
import { embeddedFile } from '../runtime.ts'
import { loadFromMemory } from './native-image.ts'
import { type Addon, NativeTransport } from './native-transport.ts'
import type { Transport } from './transport.ts'

/** Why there is no native addon, and what to do about it. */
export interface NativeMissing {
  readonly reason: string
  readonly remedy: string
}

/** A way to the devices through the native addon, or why there is none. */
export type Native =
  | { readonly transport: Transport; readonly readPeer: PeerReader }
  | NativeMissing

let loaded: Native | undefined

/**
 * The native addon: out of the single file where it is in there, otherwise from `dist/`. Loaded
 * once in a process. Never throws.
 */
export function loadNative(): Native {
  loaded ??= load()
  return loaded
}

/** Where the addon of this program is expected, for `--allow-ffi` and for those who package it. */
export function addonFile(): string {
  // The sources of this file are two folders down, its bundle is beside the addon.
  const fromSources = import.meta.url.endsWith('/src/device/native.ts')
  const relative = fromSources ? '../../dist/device.node' : './device.node'
  return fileURLToPath(new URL(relative, import.meta.url))
}

/** Loads an addon from a file. Never throws. */
export function loadAddon(file: string): Native {
  try {
    return nativeOf(open(file))
  } catch (error) {
    return whyNot(file, error)
  }
}

function load(): Native {
  const image = embeddedFile('device', '.node')
  if (!image) return loadAddon(addonFile())
  try {
    return nativeOf(loadFromMemory(image, open))
  } catch (error) {
    return {
      reason: `the native addon in this file cannot be loaded: ${messageOf(error)}`,
      remedy: 'set TMPDIR to a folder that allows execution',
    }
  }
}

function nativeOf(addon: Addon): Native {
  const readPeer: PeerReader = (fd) => {
    const [uid, gid] = addon.peer(fd)
    return { uid, gid }
  }
  return { transport: new NativeTransport(addon), readPeer }
}

function open(file: string): Addon {
  const module = { exports: {} as Addon }
  process.dlopen(module, file)
  // The newest function: an older build is none.
  if (typeof module.exports.peer !== 'function') throw new Error('it is not the device addon')
  return module.exports
}

function whyNot(file: string, error: unknown): NativeMissing {
  if (isRefusal(error)) {
    return {
      reason: `the runtime refuses to load ${file}`,
      remedy: `start with --allow-ffi=${file}`,
    }
  }
  if (!exists(file)) {
    const remedy = 'install a C compiler and run "npm run build"'
    return { reason: `${file} does not exist`, remedy }
  }
  const remedy = 'build it on this kind of machine: node scripts/native.mjs'
  return { reason: `${file} cannot be loaded: ${messageOf(error)}`, remedy }
}

/** Deno may load a file that it may not look at. */
function exists(file: string): boolean {
  try {
    return existsSync(file)
  } catch {
    return true
  }
}

/** Deno's refusal has no errno. */
function isRefusal(error: unknown): boolean {
  return error instanceof Error && /NotCapable|PermissionDenied/.test(error.name)
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
