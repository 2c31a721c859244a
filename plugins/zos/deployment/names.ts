const MAX_BYTES = 36
const RESERVED = 'ygg'

/** What is wrong with the name of a workload (spec zos §4.4); undefined when nothing is. */
export function checkName(name: string): string | undefined {
  if (name === '') return 'name cannot be empty'
  if (new TextEncoder().encode(name).length > MAX_BYTES) return 'name cannot exceed 36 characters'
  if (!/^\w+$/.test(name)) return 'unsupported character in workload name'
  return name === RESERVED ? `invalid name '${name}' is reserved` : undefined
}
