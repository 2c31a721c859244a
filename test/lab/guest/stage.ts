import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'

/** The two devices that the module `teelab` imitates. */
export type Hardware = 'tdx' | 'nsm'

/**
 * What the back end does in place of answering: `hang` waits until the fault is gone, `empty`
 * answers nothing, `foreign` answers somebody else's request, `junk` answers bytes that mean
 * nothing, `huge` as many as there may be; an errno fails a quote with it, another name is an
 * error of the NSM.
 */
export type Fault = 'hang' | 'empty' | 'foreign' | 'junk' | 'huge' | Errno | 'InternalError'

/** What drivers fail with. */
export type Errno = 'EBUSY' | 'EINTR' | 'EINVAL' | 'EIO' | 'ENOMEM' | 'ENXIO' | 'ETIMEDOUT'

/** What the back end makes known: `tdx-root.der`, `tdx-collateral.json`, `nitro-root.der`. */
export const TRUST = '/run/lab/trust'

const FAULTS = '/run/lab/faults'
const PARAMETERS = '/sys/module/teelab/parameters'
const REPORTS = '/sys/kernel/config/tsm/report'

/** Makes the folders above; done by the back end before anything else. */
export function setStage(): void {
  mkdirSync(TRUST, { recursive: true })
  mkdirSync(FAULTS, { recursive: true })
  for (const hardware of ['tdx', 'nsm'] as const) setFault(hardware, undefined)
}

/** Makes the back end misbehave from its next request on; undefined ends it. */
export function setFault(hardware: Hardware, fault: Fault | undefined): void {
  const path = `${FAULTS}/${hardware}`
  writeFileSync(`${path}.new`, fault ?? '')
  renameSync(`${path}.new`, path)
}

/** What the back end of a device is to do wrong. */
export function faultOf(hardware: Hardware): Fault | undefined {
  const text = readFileSync(`${FAULTS}/${hardware}`, 'utf8')
  return text === '' ? undefined : (text as Fault)
}

/** Plugs devices in and out, as on a machine that has these and no others. */
export function plug(...present: readonly Hardware[]): void {
  for (const hardware of ['tdx', 'nsm'] as const) {
    setParameter(hardware, present.includes(hardware) ? 'Y' : 'N')
  }
}

/** Sets a parameter of the module; see `module/main.c`. */
export function setParameter(
  name: Hardware | 'report_errno' | 'quote_timeout_s',
  value: string | number,
): void {
  writeFileSync(`${PARAMETERS}/${name}`, String(value))
}

/** Names of the report entries there are. */
export function reportEntries(): readonly string[] {
  return readdirSync(REPORTS)
}
