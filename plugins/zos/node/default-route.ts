import type { HostFiles } from './host-files.ts'

const MAX_BYTES = 4 * 1024 * 1024

/** include/uapi/linux/route.h */
const RTF_UP = 0x1
const RTF_REJECT = 0x200

interface Route {
  readonly name: string
  readonly metric: number
}

/**
 * The interface of the default route: of IPv4, else of IPv6, the one of the lowest metric. Undefined
 * when there is none, or nobody may tell.
 */
export async function defaultInterface(files: HostFiles): Promise<string | undefined> {
  const four = await bestRoute(files, '/proc/net/route', route4)
  return four ?? (await bestRoute(files, '/proc/net/ipv6_route', route6))
}

async function bestRoute(
  files: HostFiles,
  path: string,
  parse: (fields: readonly string[]) => Route | undefined,
): Promise<string | undefined> {
  let best: Route | undefined
  await files.eachLine(path, MAX_BYTES, (line) => {
    const route = parse(line.trim().split(/\s+/))
    if (route && (!best || route.metric < best.metric)) best = route
    return undefined
  })
  return best?.name
}

/** `Iface Destination Gateway Flags RefCnt Use Metric Mask …`, flags and addresses in hex. */
function route4(fields: readonly string[]): Route | undefined {
  const [name = '', destination, , flags = '', , , metric = '', mask] = fields
  if (destination !== '00000000' || mask !== '00000000' || !isUsable(flags)) return undefined
  return { name, metric: Number(metric) }
}

/** `destination length source length gateway metric refcnt use flags iface`, all in hex. */
function route6(fields: readonly string[]): Route | undefined {
  const [destination = '', length, , , , metric = '', , , flags = '', name = ''] = fields
  if (!/^0{32}$/.test(destination) || length !== '00' || !isUsable(flags)) return undefined
  return name === 'lo' ? undefined : { name, metric: Number.parseInt(metric, 16) }
}

function isUsable(flags: string): boolean {
  const value = Number.parseInt(flags, 16)
  return (value & RTF_UP) !== 0 && (value & RTF_REJECT) === 0
}
