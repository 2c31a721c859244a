/**
 * The path of a request as every part of cvmd sees it: taken from the URL as sent, the same on all
 * runtimes, and the only thing routes are matched on.
 *
 * - Dot segments are resolved (Node and Bun do it before we see the URL, Deno does not).
 * - Escapes stay as sent, so `/%6civez` is not `/livez` and `%2f` never becomes a separator;
 *   only a path whose escapes are exactly the ones a Go client writes (a space as `%20`, bytes
 *   beyond ASCII) is decoded. This is how net/url and chi treat a path (spec system-api §4).
 */
export function requestPath(request: Request): string {
  const url = request.url
  const start = url.indexOf('/', url.indexOf(':') + 3)
  if (start === -1) return '/'
  let end = url.indexOf('?', start)
  if (end === -1) end = url.indexOf('#', start)
  const path = end === -1 ? url.slice(start) : url.slice(start, end)
  if (!path.includes('%') && !path.includes('/.')) return path
  return canonicalDecode(resolveDots(path))
}

/** Removes `.` and `..`, also written `%2e`, as WHATWG URL does; empty segments stay. */
function resolveDots(path: string): string {
  if (!/\/(\.|%2e){1,2}(\/|$)/i.test(path)) return path
  const out: string[] = []
  const segments = path.split('/').slice(1)
  for (const [i, segment] of segments.entries()) {
    const last = i === segments.length - 1
    const dots = segment.replace(/%2e/gi, '.')
    if (dots === '..') out.pop()
    else if (dots !== '.') out.push(segment)
    if (last && (dots === '.' || dots === '..')) out.push('')
  }
  return `/${out.join('/')}`
}

function canonicalDecode(path: string): string {
  let decoded: string
  try {
    decoded = decodeURIComponent(path)
  } catch {
    return path
  }
  return goEscapePath(decoded) === path ? decoded : path
}

/** Escapes a path as Go's net/url does: all but unreserved characters and `$&+,/:;=@`. */
export function goEscapePath(path: string): string {
  // encodeURI leaves !'()*#?[] beside Go's set; Go escapes all of these.
  return encodeURI(path).replace(
    /[!'()*#?[\]]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  )
}
