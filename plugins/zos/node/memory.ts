import { freemem, totalmem } from 'node:os'
import type { HostFiles } from './host-files.ts'

/** Bytes of main memory. */
export interface Memory {
  readonly total: bigint
  /** Without swapping (proc_meminfo(5), `MemAvailable`). */
  readonly available: bigint
}

/** Reads /proc/meminfo; what it does not tell comes from the runtime, else is 0. Never throws. */
export async function readMemory(files: HostFiles): Promise<Memory> {
  const text = (await files.text('/proc/meminfo')) ?? ''
  const own = files.root === '/'
  return {
    total: kib(text, 'MemTotal') ?? (own ? asked(totalmem) : 0n),
    available: kib(text, 'MemAvailable') ?? (own ? asked(freemem) : 0n),
  }
}

function kib(text: string, key: string): bigint | undefined {
  const found = new RegExp(`^${key}:\\s+([0-9]{1,15}) kB$`, 'm').exec(text)?.[1]
  return found === undefined ? undefined : BigInt(found) * 1024n
}

/** Deno throws where it may not tell. */
function asked(look: () => number): bigint {
  try {
    return BigInt(Math.trunc(look()))
  } catch {
    return 0n
  }
}
