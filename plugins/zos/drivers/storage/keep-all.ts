/**
 * Whether to leave what belongs to no deployment: where nothing at all is wanted, the deployments
 * rather than their data were lost, and a person has to look.
 *
 * @param gone Ids of what would be removed.
 * @param warn Told about it.
 */
export function keepAll(
  wanted: ReadonlySet<string>,
  gone: readonly string[],
  dataDir: string,
  warn: (text: string) => void,
): boolean {
  if (wanted.size > 0 || gone.length === 0) return false
  warn(
    `Left ${gone.length} disks or volumes in "${dataDir}" that belong to no deployment, as there is ` +
      'no deployment at all: remove them by hand if they are not needed',
  )
  return true
}
