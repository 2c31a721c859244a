import type { Programs } from './programs.ts'

/**
 * What `zinit -V` writes, without the leading word; '' where there is no zinit, and the reason
 * where it cannot run (spec §9.3). Never throws.
 */
export async function zinitVersion(programs: Programs): Promise<string> {
  const { stdout = '', missing, problem } = await programs.run(['zinit', '-V'])
  if (missing) return ''
  return problem ?? stdout.trim().replace(/^\S+/, '').trim()
}
