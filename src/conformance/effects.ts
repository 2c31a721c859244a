import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { createRequire, syncBuiltinESMExports } from 'node:module'

/** Globals that start something; the same on all runtimes. */
const GLOBALS = ['setTimeout', 'setInterval', 'setImmediate', 'fetch', 'WebSocket'] as const

/** Modules whose every function touches something outside the plugin's memory. */
const MODULES = [
  'fs',
  'fs/promises',
  'child_process',
  'net',
  'dgram',
  'tls',
  'dns',
  'worker_threads',
]

/**
 * Runs something synchronous and names what it did beside computing: timers and requests through
 * globals, descriptors and child processes left open, and on Node every call of the modules above.
 *
 * What it cannot see: on Bun and Deno a file that was read and closed again, because there imports
 * of built-in modules cannot be watched; descriptors where there is no /proc; work begun later.
 */
export function watchEffects<T>(run: () => T): { readonly value: T; readonly effects: string[] } {
  const seen = new Set<string>()
  const before = openThings()
  const restore = [...watchGlobals(seen), ...watchModules(seen)]
  let value: T
  try {
    value = run()
  } finally {
    for (const undo of restore.reverse()) undo()
    syncBuiltinESMExports()
  }
  for (const [thing, count] of openThings()) {
    if (count > (before.get(thing) ?? 0)) seen.add(`left open: ${thing}`)
  }
  return { value, effects: [...seen] }
}

type Callable = (...args: unknown[]) => unknown
type Members = Record<string, unknown>

function watchGlobals(seen: Set<string>): (() => void)[] {
  return GLOBALS.flatMap((name) => watch(globalThis as unknown as Members, name, name, seen))
}

function watchModules(seen: Set<string>): (() => void)[] {
  const require = createRequire(import.meta.url)
  const undo = MODULES.flatMap((name) => {
    const members: Members = require(`node:${name}`)
    return Object.keys(members).flatMap((key) => watch(members, key, `${name}.${key}`, seen))
  })
  syncBuiltinESMExports()
  return undo
}

/** Puts a proxy in a member's place; gives what takes it away again. */
function watch(members: Members, key: string, label: string, seen: Set<string>): (() => void)[] {
  const descriptor = Object.getOwnPropertyDescriptor(members, key)
  // Deno has accessors for its timers; those of the modules only announce their deprecation.
  const original = members === globalThis ? members[key] : descriptor?.value
  if (typeof original !== 'function' || !descriptor?.configurable) return []
  const note = () => seen.add(label)
  const proxy = new Proxy(original as Callable, {
    apply(target, self, args) {
      note()
      return Reflect.apply(target, self, args)
    },
    construct(target, args, base) {
      note()
      return Reflect.construct(target, args, base) as object
    },
  })
  const { enumerable = true } = descriptor
  Object.defineProperty(members, key, {
    value: proxy,
    writable: true,
    configurable: true,
    enumerable,
  })
  return [() => Object.defineProperty(members, key, descriptor)]
}

/** Descriptors, child processes and whatever else keeps the runtime alive, with how many of each. */
function openThings(): Map<string, number> {
  const things = [...descriptors(), ...children(), ...(process.getActiveResourcesInfo?.() ?? [])]
  const counts = new Map<string, number>()
  for (const thing of things) counts.set(thing, (counts.get(thing) ?? 0) + 1)
  return counts
}

function descriptors(): string[] {
  return list('/proc/self/fd').flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`)
      // The listing itself, and what runtimes open for their own loops.
      return /^(anon_inode:|\/proc\/)/.test(target) ? [] : target.replace(/:\[\d+\]$/, '')
    } catch {
      return []
    }
  })
}

function children(): string[] {
  // One folder per thread; the kernel lists in each the processes that thread started.
  return list('/proc/self/task').flatMap((task) => {
    try {
      const text = readFileSync(`/proc/self/task/${task}/children`, 'utf8')
      return text
        .split(' ')
        .filter(Boolean)
        .map(() => 'child process')
    } catch {
      return []
    }
  })
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}
