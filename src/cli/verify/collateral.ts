import { writeFile } from 'node:fs/promises'
import { type Collateral, formatCollateral, parseCollateral } from '../../attest/tdx/collateral.ts'
import { intelSgxRoot } from '../../attest/tdx/root.ts'
import { messageOf } from '../../errors.ts'
import { parseCertificate } from '../../x509/certificate.ts'
import type { Evidence } from './evidence.ts'
import { readInput, unreadable } from './input.ts'

/** Where collateral is to come from, and with what it is verified on its way. */
export interface CollateralFlags {
  readonly collateral: string | undefined
  readonly pccs: string | undefined
  readonly save: string | undefined
  /** DER. */
  readonly root: Uint8Array | undefined
  /** Unix time in milliseconds. */
  readonly at: number
}

/**
 * Reads collateral from a file, or gets it for the platform of a quote from a service.
 *
 * @returns Undefined where neither was asked for, or the quote is of no platform that could be.
 * @throws {CommandFailed} With status 2 when it cannot be had, or a flag does not fit.
 * @throws {EvidenceError} When a file of it cannot be read.
 */
export async function collateralFor(
  evidence: Evidence,
  flags: CollateralFlags,
): Promise<Collateral | undefined> {
  const { collateral: file, pccs, save } = flags
  if (file !== undefined && pccs !== undefined) {
    throw unreadable('--collateral and --pccs exclude each other')
  }
  if (save !== undefined && pccs === undefined) {
    throw unreadable('--save-collateral wants --pccs, where it comes from')
  }
  if (file !== undefined) return parseCollateral(await readInput(file))
  if (pccs === undefined) return undefined
  const found = await fetched(evidence, pccs, flags)
  if (found && save !== undefined) {
    await writeFile(save, formatCollateral(found)).catch((error) => {
      throw unreadable(`cannot write "${save}": ${messageOf(error)}`)
    })
  }
  return found
}

async function fetched(
  evidence: Evidence,
  pccs: string,
  { root, at }: CollateralFlags,
): Promise<Collateral | undefined> {
  if (evidence.platform === 'nitro') throw unreadable('an NSM document needs no --pccs')
  const { protocol, username, password, search, hash } = URL.canParse(pccs) ? new URL(pccs) : NO_URL
  if (!/^https?:$/.test(protocol) || username || password || search || hash) {
    throw unreadable(`--pccs wants a URL like ${INTEL}, without credentials and query`)
  }
  if (evidence.platform !== 'tdx') return undefined
  // Without the flag nothing of this is needed.
  const [{ platformOf }, { fetchCollateral }, { pccsOf }] = await Promise.all([
    import('../../collateral/platform.ts'),
    import('../../collateral/fetch.ts'),
    import('../../collateral/pccs-url.ts'),
  ])
  const anchor = { root: parseCertificate(root ?? intelSgxRoot()), at }
  const platform = platformOf(evidence.bytes, anchor)
  if (!platform) return undefined
  try {
    return (await fetchCollateral(pccsOf(pccs), platform, anchor)).collateral
  } catch (error) {
    throw unreadable(messageOf(error))
  }
}

const INTEL = 'https://api.trustedservices.intel.com'
const NO_URL = { protocol: '', username: '', password: '', search: '', hash: '' }
