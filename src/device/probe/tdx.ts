import { errnoOf } from '../../errors.ts'
import { readRegister, tdReport } from '../measurements.ts'
import { TDX_GUEST, TDX_MEASUREMENTS, TSM_REPORT } from '../paths.ts'
import { REPORT_DATA_BYTES } from '../report-data.ts'
import { readProvider, TDX_PROVIDER } from '../tsm.ts'
import { TsmEntries } from '../tsm-entries.ts'
import { explained, type Finding } from './finding.ts'
import type { Look } from './look.ts'
import { nodeProbe } from './node.ts'

const NO_TSM = 'mount configfs and load tdx_guest (Linux 6.7 or later, CONFIG_TSM_REPORTS)'
const NO_TDX = 'run in a TDX guest with tdx_guest loaded (Linux 6.2 or later)'
const NO_REGISTERS = 'run Linux 6.16 or later with CONFIG_TSM_MEASUREMENTS'

/**
 * Whether reports can be made, and by whom. The folder proves nothing: without a provider an
 * entry cannot be made in it (spec tdx §1), so one is made, and removed however late that is.
 */
export async function probeReports(look: Look): Promise<Finding> {
  if (look.stands) return await findProvider(look)
  const { transport } = look
  const at = { path: TSM_REPORT, tried: 'mkdir, read provider, rmdir' }
  try {
    await transport.stat(TSM_REPORT)
  } catch (error) {
    return explained(error, { ...at, tried: 'stat', absent: NO_TSM })
  }
  const entries = new TsmEntries(transport)
  let entry: string
  try {
    entry = await entries.make()
  } catch (error) {
    if (errnoOf(error) !== 'ENXIO') return explained(error, { ...at, absent: NO_TSM })
    const meaning = 'configfs-tsm is there, but nothing provides reports'
    return { ...at, state: 'absent', errno: 'ENXIO', meaning, remedy: NO_TDX }
  }
  try {
    return provided(await readProvider(transport, entry), at)
  } catch (error) {
    return explained(error, { ...at, absent: NO_TSM })
  } finally {
    await entries.remove(entry)
  }
}

/** In a folder that stands for a machine no kernel answers: an entry with a provider is the proof. */
async function findProvider({ transport }: Look): Promise<Finding> {
  const at = { path: TSM_REPORT, tried: 'list, read provider' }
  try {
    for (const name of await transport.list(TSM_REPORT)) {
      const provider = await readProvider(transport, `${TSM_REPORT}/${name}`).catch(() => '')
      if (provider !== '') return provided(provider, at)
    }
  } catch (error) {
    return explained(error, { ...at, absent: NO_TSM })
  }
  const meaning = 'no entry has a provider'
  return { ...at, state: 'absent', meaning, remedy: `put a file NAME/provider into ${TSM_REPORT}` }
}

function provided(provider: string, at: { path: string; tried: string }): Finding {
  return { ...at, state: 'present', meaning: `reports are made by ${provider}`, provider }
}

/** Whether /dev/tdx_guest gives a TDREPORT. */
export async function probeTdReport(look: Look): Promise<Finding> {
  return await nodeProbe(look, {
    path: TDX_GUEST,
    tried: 'ioctl TDX_CMD_GET_REPORT0',
    absent: NO_TDX,
    prove: async () => {
      await tdReport(look.transport, new Uint8Array(REPORT_DATA_BYTES))
      return 'TDREPORTs are made'
    },
  })
}

/** Whether the measurement files are there. */
export async function probeRegisters({ transport }: Look): Promise<Finding> {
  const at = { path: TDX_MEASUREMENTS, tried: 'read rtmr3:sha384' }
  try {
    await readRegister(transport, 'rtmr3:sha384')
    return { ...at, state: 'present', meaning: 'registers can be read and extended' }
  } catch (error) {
    return explained(error, { ...at, absent: NO_REGISTERS })
  }
}

/** TDX is there when either of its two devices proves it. */
export function tdxOf(reports: Finding, tdReports: Finding): Finding {
  const quotes = reportsOfTdx(reports)
  if (quotes.state === 'present') return quotes
  if (tdReports.state === 'present') {
    const meaning = `${tdReports.meaning}, but no quotes: ${quotes.meaning}`
    return { ...tdReports, meaning, ...(quotes.remedy !== undefined && { remedy: quotes.remedy }) }
  }
  const decisive = tdReports.state === 'unknown' || quotes.state === 'absent' ? tdReports : quotes
  return { ...decisive, meaning: `${tdReports.meaning}; ${quotes.meaning}` }
}

/** Reports made by others are no quotes of TDX. */
function reportsOfTdx(reports: Finding): Finding {
  if (reports.state !== 'present' || reports.provider === TDX_PROVIDER) return reports
  return { ...reports, state: 'absent', remedy: NO_TDX }
}
