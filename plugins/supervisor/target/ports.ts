import type { PortMapping } from './composition-model.ts'
import { MAX_ITEMS, MAX_PORTS } from './limits.ts'
import { isObject, type Place } from './place.ts'

/** `[address:]host[-end]:container[-end][/protocol]`; the host's part may be missing. */
const PORT =
  /^(?:(?:(\[[0-9a-fA-F:.]{2,45}\]|[0-9.]{7,15}):)?([0-9]{0,5})(?:-([0-9]{1,5}))?:)?([0-9]{1,5})(?:-([0-9]{1,5}))?(?:\/(tcp|udp|sctp))?$/i

/**
 * Published ports (spec §10), each once. What cannot be read is an issue and not left out: the
 * engine would refuse it at every apply.
 */
export function readPorts(value: unknown, place: Place): PortMapping[] | undefined {
  if (!Array.isArray(value)) return place.issue('must be a list of ports')
  if (value.length > MAX_ITEMS) return place.issue(`must have at most ${MAX_ITEMS} elements`)
  const ports = new Map<string, PortMapping>()
  for (const [index, element] of value.entries()) {
    for (const port of readPort(element, place.in(index)) ?? []) {
      ports.set(`${port.address} ${port.host} ${port.container} ${port.protocol}`, port)
    }
    if (ports.size > MAX_PORTS) return place.issue(`must name at most ${MAX_PORTS} ports`)
  }
  return ports.size > 0 ? [...ports.values()] : undefined
}

function readPort(value: unknown, place: Place): PortMapping[] | undefined {
  const text = isObject(value) ? shortForm(value) : value
  const match = typeof text === 'number' || typeof text === 'string' ? PORT.exec(`${text}`) : null
  if (match === null) {
    return place.issue('must be "[address:]host[-end]:container[-end][/tcp|udp|sctp]"')
  }
  const [, address = '', host, hostEnd, container, containerEnd, protocol = 'tcp'] = match
  const first = Number(container)
  const last = containerEnd === undefined ? first : Number(containerEnd)
  // `8080` alone publishes the same port; `:8080` lets the engine choose.
  const hostFirst = host === undefined ? first : Number(host)
  const hostLast = host === undefined ? last : hostEnd === undefined ? hostFirst : Number(hostEnd)
  if (first < 1 || last > 65535 || hostLast > 65535) return place.issue('must be 1 to 65535')
  if (last < first || last - first !== hostLast - hostFirst) {
    return place.issue('must have ranges of one length on both sides')
  }
  return Array.from({ length: last - first + 1 }, (_, offset) => ({
    address: address.replace(/^\[|\]$/g, ''),
    host: hostFirst === 0 ? 0 : hostFirst + offset,
    container: first + offset,
    protocol: protocol.toLowerCase() as PortMapping['protocol'],
  }))
}

/** The long form: target, published, host_ip, protocol. */
function shortForm(value: Readonly<Record<string, unknown>>): string {
  const { target, published = '', host_ip: address, protocol } = value
  const ip = typeof address === 'string' && address !== '' ? address : undefined
  const front = ip === undefined ? '' : ip.includes(':') ? `[${ip}]:` : `${ip}:`
  return `${front}${published}:${target}${protocol === undefined ? '' : `/${protocol}`}`
}
