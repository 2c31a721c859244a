import type { QeReport } from './quote-signature.ts'
import { findModule, majorOf, matchSvn, type ReachedLevels } from './tcb.ts'
import type {
  ModuleIdentity,
  PlatformLevel,
  QeIdentity,
  SvnLevel,
  TcbInfo,
  TcbStatus,
} from './tcb-info.ts'
import type { TdBody } from './td-body.ts'

/** How up to date a platform is, by Intel's rules. */
export interface Tcb {
  readonly status: TcbStatus
  /** Of platform, module and quoting enclave together, without repetition. */
  readonly advisoryIds: readonly string[]
  /** When the platform's level was set, Unix time in milliseconds. */
  readonly date: number
  /** Grows with every change of Intel's TCB data. */
  readonly evaluationNumber: number
  readonly platform: PlatformLevel
  /** Undefined for a module of major version 0. */
  readonly module: SvnLevel | undefined
  readonly qe: SvnLevel
}

/** The levels of what stands beside the platform (spec tdx §8 step 12). */
export interface SvnLevels {
  readonly module: SvnLevel | undefined
  readonly qe: SvnLevel
}

/** @throws {EvidenceError} `TCB_NO_LEVEL`. */
export function matchSvnLevels(
  module: ModuleIdentity | undefined,
  identity: QeIdentity,
  { teeTcbSvn }: TdBody,
  { isvSvn }: QeReport,
): SvnLevels {
  const moduleSvn = teeTcbSvn[0] ?? 0
  return {
    module: module && matchSvn(module.tcbLevels, moduleSvn, 'TDX module'),
    qe: matchSvn(identity.tcbLevels, isvSvn, 'quoting enclave'),
  }
}

/**
 * Merges the levels into one status (step 13), as Intel's verification library does.
 *
 * @throws {EvidenceError} `TDX_MODULE_UNKNOWN` when the module now in memory is none of Intel's.
 */
export function mergeTcb(
  info: TcbInfo,
  { sgx, tdx }: ReachedLevels,
  { module, qe }: SvnLevels,
  td: TdBody,
): Tcb {
  const withModule = worsen(tdx.tcbStatus, module)
  const relaunch = qe.tcbStatus === 'UpToDate' && module?.tcbStatus === 'OutOfDate'
  const status = relaunch ? adviseRelaunch(info, sgx, withModule, td) : withModule
  const levels = [tdx, ...(module === undefined ? [] : [module]), qe]
  return {
    status: worsen(status, qe),
    advisoryIds: [...new Set(levels.flatMap(({ advisoryIDs }) => advisoryIDs))],
    date: tdx.tcbDate,
    evaluationNumber: info.tcbEvaluationDataNumber,
    platform: tdx,
    module,
    qe,
  }
}

function worsen(status: TcbStatus, by: SvnLevel | undefined): TcbStatus {
  if (by?.tcbStatus === 'Revoked') return 'Revoked'
  if (by?.tcbStatus !== 'OutOfDate') return status
  switch (status) {
    case 'UpToDate':
    case 'SWHardeningNeeded':
      return 'OutOfDate'
    case 'ConfigurationNeeded':
    case 'ConfigurationAndSWHardeningNeeded':
      return 'OutOfDateConfigurationNeeded'
    default:
      return status
  }
}

const SOUND: readonly TcbStatus[] = [
  'UpToDate',
  'SWHardeningNeeded',
  'ConfigurationNeeded',
  'ConfigurationAndSWHardeningNeeded',
]

/**
 * A TD started under an old module that has been replaced since: all it lacks is a new start.
 *
 * @param status Of the platform with the module it was started under.
 */
function adviseRelaunch(
  info: TcbInfo,
  { tcbStatus: sgxStatus }: PlatformLevel,
  status: TcbStatus,
  { teeTcbSvn2 }: TdBody,
): TcbStatus {
  const [latest] = info.tcbLevels
  const outOfDate = status === 'OutOfDate' || status === 'OutOfDateConfigurationNeeded'
  if (
    teeTcbSvn2 === undefined ||
    latest === undefined ||
    !outOfDate ||
    !SOUND.includes(sgxStatus)
  ) {
    return status
  }
  const component = (i: number): number => latest.tcb.tdxtcbcomponents[i]?.svn ?? 0
  const [moduleSvn = 0, , microcode = 0] = teeTcbSvn2
  const [newest] = findModule(info, majorOf(teeTcbSvn2))?.tcbLevels ?? []
  const wanted = newest?.tcb.isvsvn ?? component(0)
  if (moduleSvn < wanted || microcode < component(2)) return status
  const configure = [sgxStatus, status].some((one) => one.includes('Configuration'))
  return configure ? 'TDRelaunchAdvisedConfigurationNeeded' : 'TDRelaunchAdvised'
}
