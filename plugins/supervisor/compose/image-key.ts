/**
 * One text for all ways to write a reference to an image, to compare references with: Docker Hub's
 * prefixes and the tag `latest` are implied, a digest makes the tag meaningless, and Podman puts
 * `localhost/` before what it made itself (spec §23.4).
 */
export function imageKey(reference: string): string {
  const bare = reference.replace(/^(?:docker\.io\/(?:library\/)?|localhost\/)/, '')
  const at = bare.indexOf('@')
  const name = at < 0 ? bare : bare.slice(0, at)
  // A colon before a slash is a port.
  const colon = name.indexOf(':', name.lastIndexOf('/') + 1)
  if (at >= 0) return `${colon < 0 ? name : name.slice(0, colon)}${bare.slice(at)}`
  return colon < 0 ? `${name}:latest` : name
}
