import type { BigIntStats } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { parseCollateral } from '../../../src/attest/tdx/collateral.ts'
import { factsOf, type KnownCollateral } from '../../../src/collateral/facts.ts'
import type { QuotedPlatform } from '../../../src/collateral/platform.ts'
import { TrustError } from '../../../src/collateral/trust-error.ts'
import { errnoOf, messageOf } from '../../../src/errors.ts'
import { readTrusted } from './read-file.ts'

/** Collateral that the operator put on this machine. */
export interface CollateralFiles {
  /** Looks at the files, so that what is wrong with them is reported. */
  look(): Promise<void>
  /**
   * The newest for a platform, of those that are valid now where there are any.
   *
   * @param at Unix time in milliseconds.
   */
  find(platform: QuotedPlatform, at: number): Promise<KnownCollateral | undefined>
}

/** Where collateral lies, and how it is watched. */
export interface CollateralFilesOptions {
  /** A file, or a folder of which `*.json` is read; absolute. */
  readonly path: string
  /** Told what cannot be used, once for each state of a file. */
  readonly log: (message: string) => void
  /** Monotonic milliseconds. */
  readonly clock?: () => number
}

/** As much as `parseCollateral` reads. */
const MAX_FILE_BYTES = 256 * 1024
const MAX_FILES = 256

/** How long what was seen of the files counts, in milliseconds. */
const LOOK_EVERY_MS = 1000

/** A file written this shortly ago may be written again without its times telling. */
const UNSETTLED_MS = 2000

interface Seen {
  /** Of the file's content as the system tells it; undefined: look again in any case. */
  readonly state: string | undefined
  /** The last that could be used, also when the file has since been damaged. */
  readonly known: KnownCollateral | undefined
  readonly problem: string | undefined
}

/**
 * Watches files by looking at them when they are needed, at most once a second. One that cannot be
 * read is reported and takes no other down; what it said before stays until it is gone.
 */
export function collateralFiles({
  path,
  log,
  clock = () => performance.now(),
}: CollateralFilesOptions): CollateralFiles {
  let seen = new Map<string, Seen>()
  let problem: string | undefined
  let looked = Number.NEGATIVE_INFINITY
  let looking: Promise<void> | undefined

  function report(before: string | undefined, now: string | undefined): void {
    if (now !== undefined && now !== before) log(now)
  }

  async function look(): Promise<void> {
    const before = problem
    try {
      const files = await listed(path)
      problem = files.problem
      const next = new Map<string, Seen>()
      for (const file of files.paths) {
        const found = await seenAt(file, seen.get(file))
        report(seen.get(file)?.problem, found.problem)
        next.set(file, found)
      }
      seen = next
    } catch (error) {
      problem = `Cannot use "${path}": ${errnoOf(error) ?? messageOf(error)}`
    }
    report(before, problem)
    looked = clock()
  }

  function current(): Promise<void> {
    if (clock() - looked < LOOK_EVERY_MS) return Promise.resolve()
    looking ??= look().finally(() => {
      looking = undefined
    })
    return looking
  }

  return {
    look: current,
    async find({ fmspc, ca }, at) {
      await current()
      const all = [...seen.values()].flatMap(({ known }) => (known ? [known] : []))
      const fitting = all.filter(({ facts }) => facts.fmspc === fmspc && facts.ca === ca)
      const valid = fitting.filter(({ facts }) => at < facts.validUntil)
      return newest(valid.length > 0 ? valid : fitting)
    },
  }
}

const newest = (all: readonly KnownCollateral[]): KnownCollateral | undefined =>
  all.reduce<KnownCollateral | undefined>(
    (best, one) => (best && best.facts.issued >= one.facts.issued ? best : one),
    undefined,
  )

/** The file itself, or what is in the folder. */
async function listed(
  path: string,
): Promise<{ readonly paths: readonly string[]; readonly problem?: string }> {
  if (!(await stat(path)).isDirectory()) return { paths: [path] }
  // Names with a dot in front are of files that are being written.
  const names = (await readdir(path)).filter((name) => /^[^.].*\.json$/.test(name)).sort()
  const paths = names.slice(0, MAX_FILES).map((name) => join(path, name))
  if (names.length <= MAX_FILES) return { paths }
  const problem = `Cannot use all of "${path}": ${names.length} files, the first ${MAX_FILES} are read`
  return { paths, problem }
}

async function seenAt(path: string, before: Seen | undefined): Promise<Seen> {
  let state: string | undefined
  try {
    state = stateOf(await stat(path, { bigint: true }))
    if (before && state !== undefined && state === before.state) return before
    return {
      state,
      known: parsed(path, await readTrusted(path, MAX_FILE_BYTES)),
      problem: undefined,
    }
  } catch (error) {
    return { state, known: before?.known, problem: messageOf(error) }
  }
}

function stateOf({ mtimeNs, mtimeMs, ctimeNs, size, ino }: BigIntStats): string | undefined {
  const age = Date.now() - Number(mtimeMs)
  return Math.abs(age) < UNSETTLED_MS ? undefined : `${mtimeNs} ${ctimeNs} ${size} ${ino}`
}

function parsed(path: string, bytes: Uint8Array): KnownCollateral {
  try {
    const collateral = parseCollateral(bytes)
    return { collateral, facts: factsOf(collateral) }
  } catch (cause) {
    throw new TrustError('TRUST_SETUP', `Cannot use "${path}": ${messageOf(cause)}`, { cause })
  }
}
