import { randomBytes, randomUUID } from 'node:crypto'
import { hostname, uptime } from 'node:os'
import { join } from 'node:path'
import { errnoOf, messageOf } from '../../src/errors.ts'
import { writeFileAtomic } from '../../src/files/atomic-file.ts'
import { readTextFile } from '../../src/files/text-file.ts'

const UUID_BYTES = 16

/** Who the device is. */
export interface Identity {
  /** Lower-case hex digits; 32 of them where it was made here. */
  readonly uuid: string
  readonly id: number | undefined
  readonly name: string
}

/** What the configuration says of it. */
export interface IdentityConfig {
  readonly uuid?: string | undefined
  readonly id?: number | undefined
  readonly name?: string | undefined
}

/**
 * Reads who the device is. A UUID that nobody configured is made once and kept in a file.
 *
 * @throws {Error} When the file cannot be read or made, or holds something else.
 */
export async function readIdentity(folder: string, config: IdentityConfig): Promise<Identity> {
  const { id, name = runningHostname() ?? 'device' } = config
  const uuid = config.uuid ?? (await keptUuid(join(folder, 'device-uuid')))
  return { uuid, id, name }
}

/** The machine's name; undefined where the runtime may not ask, as Deno without `--allow-sys`. */
export function runningHostname(): string | undefined {
  try {
    return hostname()
  } catch {
    return undefined
  }
}

/** Which boot this is. */
export interface Boot {
  readonly id: string
  /** Milliseconds since 1970. */
  readonly time: number
}

/**
 * Reads which boot this is: by the time of the boot where the kernel may not be asked, and as a new
 * one where that is not known either.
 */
export async function readBoot(): Promise<Boot> {
  const up = runningFor()
  const time = up === undefined ? 0 : Date.now() - up * 1000
  const id = await readTextFile('/proc/sys/kernel/random/boot_id', 64).then(
    (text) => text.trim(),
    // Minutes, because clocks are set.
    () => (up === undefined ? randomUUID() : `boot-${Math.round(time / 60_000)}`),
  )
  return { id, time }
}

/** Seconds since the boot; undefined where the runtime may not ask. */
function runningFor(): number | undefined {
  try {
    return uptime()
  } catch {
    return undefined
  }
}

async function keptUuid(path: string): Promise<string> {
  try {
    const text = (await readTextFile(path, 1024)).trim()
    if (/^[0-9a-f]{32}$/.test(text)) return text
    throw new Error('it has no UUID')
  } catch (cause) {
    if (errnoOf((cause as Error).cause) !== 'ENOENT') {
      const message = `Cannot use the UUID of the device in "${path}": ${messageOf(cause)}`
      throw new Error(`${message}; restore the file, or set device.uuid`, { cause })
    }
  }
  const uuid = randomBytes(UUID_BYTES).toString('hex')
  await writeFileAtomic(path, `${uuid}\n`, 0o600)
  return uuid
}
