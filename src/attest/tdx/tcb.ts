import { EvidenceError } from '../evidence-error.ts'
import { sameBytes, toHex } from '../hex.ts'
import type { PckPlatform } from './pck.ts'
import type { QeReport } from './quote-signature.ts'
import type {
  Module,
  ModuleIdentity,
  PlatformLevel,
  QeIdentity,
  SvnLevel,
  TcbInfo,
} from './tcb-info.ts'
import type { TdBody } from './td-body.ts'

/**
 * TCB info must be about the platform the PCK certificate names (spec tdx §8 step 8).
 *
 * @throws {EvidenceError} `TCB_INFO_FOREIGN`.
 */
export function checkPlatform(info: TcbInfo, { fmspc, pceId }: PckPlatform): void {
  if (!sameBytes(info.fmspc, fmspc) || !sameBytes(info.pceId, pceId)) {
    const found = `FMSPC ${toHex(info.fmspc)} and PCEID ${toHex(info.pceId)}`
    const expected = `${toHex(fmspc)} and ${toHex(pceId)}`
    throw refuse('TCB_INFO_FOREIGN', `TCB info is for ${found}, the platform is ${expected}`)
  }
}

/**
 * The enclave that signed must be Intel's (step 9).
 *
 * @throws {EvidenceError} `QE_IDENTITY_MISMATCH`.
 */
export function checkQuotingEnclave(identity: QeIdentity, report: QeReport): void {
  const mismatch = (field: string, found: string, expected: string) =>
    refuse('QE_IDENTITY_MISMATCH', `the quoting enclave's ${field} is ${found}, not ${expected}`)
  const { mrsigner, isvprodid, miscselect, miscselectMask, attributes, attributesMask } = identity
  if (!sameBytes(report.mrSigner, mrsigner)) {
    throw mismatch('MRSIGNER', toHex(report.mrSigner), toHex(mrsigner))
  }
  if (report.isvProdId !== isvprodid) {
    throw mismatch('ISVPRODID', `${report.isvProdId}`, `${isvprodid}`)
  }
  if (!equalUnder(miscselectMask, report.miscSelect, miscselect)) {
    throw mismatch('MISCSELECT', toHex(report.miscSelect), toHex(miscselect))
  }
  if (!equalUnder(attributesMask, report.attributes, attributes)) {
    throw mismatch('ATTRIBUTES', toHex(report.attributes), toHex(attributes))
  }
}

/**
 * The TDX module must be one that TCB info knows (step 10).
 *
 * @returns Its identity; undefined for major version 0, which has no levels of its own.
 * @throws {EvidenceError} `TDX_MODULE_UNKNOWN` or `TDX_MODULE_MISMATCH`.
 */
export function checkModule(info: TcbInfo, td: TdBody): ModuleIdentity | undefined {
  const identity = findModule(info, majorOf(td.teeTcbSvn))
  const module: Module = identity ?? info.tdxModule
  const { mrSignerSeam, seamAttributes } = td
  if (!sameBytes(mrSignerSeam, module.mrsigner)) {
    const found = `${toHex(mrSignerSeam)}, not ${toHex(module.mrsigner)}`
    throw refuse('TDX_MODULE_MISMATCH', `MRSIGNERSEAM is ${found}`)
  }
  if (
    seamAttributes.some((octet) => octet !== 0) ||
    !sameBytes(seamAttributes, module.attributes)
  ) {
    throw refuse('TDX_MODULE_MISMATCH', `SEAMATTRIBUTES are ${toHex(seamAttributes)}, not zero`)
  }
  return identity
}

/**
 * The module a major version asks for.
 *
 * @returns Undefined for version 0, which stands for `tdxModule`.
 * @throws {EvidenceError} `TDX_MODULE_UNKNOWN`.
 */
export function findModule(info: TcbInfo, major: number): ModuleIdentity | undefined {
  if (major === 0) return undefined
  const id = `TDX_${toHex(Uint8Array.of(major))}`.toUpperCase()
  const identity = info.tdxModuleIdentities.find((one) => one.id.toUpperCase() === id)
  if (identity === undefined) throw refuse('TDX_MODULE_UNKNOWN', `TCB info knows no module ${id}`)
  return identity
}

/** The levels a platform reaches. */
export interface ReachedLevels {
  /** First by SGX components and PCESVN alone. */
  readonly sgx: PlatformLevel
  /** First by the TDX components too. */
  readonly tdx: PlatformLevel
}

/**
 * Finds the highest level the platform reaches (step 11).
 *
 * @throws {EvidenceError} `TCB_NO_LEVEL`.
 */
export function matchLevels(
  { tcbLevels }: TcbInfo,
  { componentSvns, pceSvn }: PckPlatform,
  { teeTcbSvn }: TdBody,
): ReachedLevels {
  const reached = tcbLevels.filter(
    ({ tcb }) => pceSvn >= tcb.pcesvn && reaches(componentSvns, tcb.sgxtcbcomponents, 0),
  )
  // The first two describe the module, which is judged by its own levels from version 1 on.
  const from = majorOf(teeTcbSvn) > 0 ? 2 : 0
  const tdx = reached.find(({ tcb }) => reaches(teeTcbSvn, tcb.tdxtcbcomponents, from))
  const [sgx] = reached
  if (sgx === undefined || tdx === undefined) {
    const found = `components ${componentSvns}, PCESVN ${pceSvn}, TEE_TCB_SVN ${toHex(teeTcbSvn)}`
    throw refuse('TCB_NO_LEVEL', `the platform is below every level: ${found}`)
  }
  return { sgx, tdx }
}

/**
 * The first level that a version number reaches (step 12).
 *
 * @param what `TDX module` or `quoting enclave`, for the message.
 * @throws {EvidenceError} `TCB_NO_LEVEL`.
 */
export function matchSvn(levels: readonly SvnLevel[], svn: number, what: string): SvnLevel {
  const level = levels.find(({ tcb }) => svn >= tcb.isvsvn)
  if (level === undefined) {
    throw refuse('TCB_NO_LEVEL', `the ${what}'s ISVSVN ${svn} is below every level`)
  }
  return level
}

/** The TDX module's major version, of TEE_TCB_SVN or TEE_TCB_SVN2. */
export const majorOf = (teeTcbSvn: Uint8Array): number => teeTcbSvn[1] ?? 0

function reaches(
  svns: ArrayLike<number>,
  components: readonly { readonly svn: number }[],
  from: number,
): boolean {
  return components.every(({ svn }, i) => i < from || (svns[i] ?? 0) >= svn)
}

function equalUnder(mask: Uint8Array, found: Uint8Array, expected: Uint8Array): boolean {
  return mask.every((bits, i) => ((found[i] ?? 0) & bits) === (expected[i] ?? 0))
}

function refuse(code: string, found: string): EvidenceError {
  return new EvidenceError(code, `Cannot trust platform: ${found}`)
}
