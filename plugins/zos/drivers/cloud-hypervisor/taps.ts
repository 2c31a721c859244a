import { md5 } from '@noble/hashes/legacy'
import { DriverError } from '../driver.ts'
import type { HostCommands } from '../host-commands.ts'
import { quietUp } from '../network-host/apply.ts'
import { findLink, removeLink } from '../network-host/links.ts'

/** A network card of a machine: a tap of the host on a bridge. */
export interface Tap {
  /** At most 15 characters. */
  readonly name: string
  readonly bridge: string
}

/**
 * Makes a tap anew, so that nobody else's process holds it, and puts it on its bridge.
 *
 * @throws {DriverError} `failed`
 */
export async function makeTap(host: HostCommands, { name, bridge }: Tap): Promise<void> {
  if ((await findLink(host, bridge)) === undefined) {
    const remedy = 'networks of machines are those of driver "host"'
    throw new DriverError(
      'failed',
      `Cannot connect the machine: bridge "${bridge}" is missing; ${remedy}`,
    )
  }
  await removeLink(host, name)
  const action = `make network card "${name}"`
  await host.must(action, 'ip', 'tuntap', 'add', 'dev', name, 'mode', 'tap')
  await host.must(action, 'ip', 'link', 'set', 'dev', name, 'master', bridge)
  await quietUp(host, name)
}

/** As the reference gives them: of one name always the same (zosbase `pkg/network/ifaceutil`). */
export function macOf(tapName: string): string {
  const bytes = md5(new TextEncoder().encode(tapName)).slice(0, 6)
  // Administered locally, and of one card.
  bytes[0] = ((bytes[0] ?? 0) | 0x02) & 0xfe
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':')
}
