/** The first that takes the format of a disk from us and not from what is on it (CVE-2026-27211). */
export const OLDEST = [50, 1] as const

/**
 * Why a version cannot be used; undefined when it can.
 *
 * @param version As the program tells it: `51.1`, `v51.1-dirty`, `51.1.0`.
 */
export function oldProblem(version: string): string | undefined {
  const [, major, minor = '0'] = /^v?(\d{1,6})(?:\.(\d{1,6}))?/.exec(version) ?? []
  if (major === undefined) return `Cannot read the version of cloud-hypervisor: "${version}"`
  const [oldMajor, oldMinor] = OLDEST
  const fine = Number(major) > oldMajor || (Number(major) === oldMajor && Number(minor) >= oldMinor)
  if (fine) return undefined
  const why = 'older ones let a machine read files of the host (CVE-2026-27211)'
  return `cloud-hypervisor ${version} cannot be used: ${why}, install ${OLDEST.join('.')} or later`
}
