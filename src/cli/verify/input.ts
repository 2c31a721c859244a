import { createReadStream } from 'node:fs'
import type { Readable } from 'node:stream'
import { isHex } from '../../attest/hex.ts'
import type { TcbStatus } from '../../attest/tdx/tcb-info.ts'
import { messageOf } from '../../errors.ts'
import { parsePemChain } from '../../x509/pem.ts'
import { CommandFailed } from '../command-failed.ts'

/** Exit status for what cannot be read, flags included. */
export const UNREADABLE = 2

const MAX_FILE_BYTES = 16 * 1024 * 1024

/**
 * Reads a file, or standard input for `-`.
 *
 * @throws {CommandFailed} With status 2 when it cannot be read or is longer than 16 MiB.
 */
export async function readInput(path: string): Promise<Uint8Array> {
  const stream: Readable = path === '-' ? process.stdin : createReadStream(path)
  const chunks: Uint8Array[] = []
  let size = 0
  try {
    for await (const chunk of stream) {
      chunks.push(chunk as Uint8Array)
      size += (chunk as Uint8Array).length
      if (size > MAX_FILE_BYTES) break
    }
  } catch (error) {
    throw unreadable(`cannot read "${path}": ${messageOf(error)}`)
  }
  if (size > MAX_FILE_BYTES) throw unreadable(`"${path}" is longer than ${MAX_FILE_BYTES} bytes`)
  return new Uint8Array(Buffer.concat(chunks))
}

/**
 * The time of `--at`: RFC 3339, or seconds since 1970.
 *
 * @returns Unix time in milliseconds.
 * @throws {CommandFailed} With status 2.
 */
export function parseTime(text: string): number {
  if (/^\d{1,11}$/.test(text)) return Number(text) * 1000
  const isRfc3339 = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$/.test(
    text,
  )
  const time = isRfc3339 ? Date.parse(text.toUpperCase().replace(' ', 'T')) : Number.NaN
  if (!Number.isNaN(time)) return time
  throw unreadable(`--at wants a time like 2026-03-01T12:00:00Z or Unix seconds, not "${text}"`)
}

/**
 * Bytes of a flag in hex, with or without `0x`.
 *
 * @throws {CommandFailed} With status 2 when it is not hex or longer than `most` bytes.
 */
export function parseHex(flag: string, text: string, most: number): Uint8Array {
  const digits = text.replace(/^0x/i, '')
  if (!isHex(digits)) throw unreadable(`${flag} wants hex, not "${text.slice(0, 40)}"`)
  if (digits.length > 2 * most) {
    throw unreadable(`${flag} wants at most ${most} bytes, not ${digits.length / 2}`)
  }
  return new Uint8Array(Buffer.from(digits, 'hex'))
}

/** Every status, and whether it can be accepted at all. */
const STATUSES: Readonly<Record<TcbStatus, boolean>> = {
  UpToDate: true,
  SWHardeningNeeded: true,
  ConfigurationNeeded: true,
  ConfigurationAndSWHardeningNeeded: true,
  OutOfDate: true,
  OutOfDateConfigurationNeeded: true,
  TDRelaunchAdvised: true,
  TDRelaunchAdvisedConfigurationNeeded: true,
  Revoked: false,
}

/**
 * The statuses of `--tcb-status`.
 *
 * @throws {CommandFailed} With status 2 for an unknown one, and for `Revoked`.
 */
export function parseStatuses(text: string): readonly TcbStatus[] {
  const names = Object.keys(STATUSES) as TcbStatus[]
  const accepted = names.filter((name) => STATUSES[name])
  return text.split(',').map((part) => {
    const status = accepted.find((name) => name === part.trim())
    if (status) return status
    throw unreadable(
      `--tcb-status wants some of ${accepted.join(', ')}, not "${part.slice(0, 40)}"`,
    )
  })
}

/**
 * The certificate of `--root`, PEM or DER.
 *
 * @returns DER.
 * @throws {EvidenceError} When a PEM text has none, or more than one.
 */
export function parseRoot(file: Uint8Array): Uint8Array {
  const text = Buffer.from(file).toString('latin1')
  if (!text.includes('-----BEGIN')) return file
  const [root, ...others] = parsePemChain(text)
  if (!root || others.length > 0) throw unreadable('--root wants exactly one certificate')
  return root.der
}

/** A complaint that ends the command with status 2. */
export function unreadable(message: string): CommandFailed {
  return new CommandFailed(message, UNREADABLE)
}
