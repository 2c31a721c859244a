import { DriverError } from '../driver.ts'
import type { HostCommands } from '../host-commands.ts'
import { readIpv4, type Subnet, writeIpv4, writeSubnet } from '../network-engine/subnet.ts'
import { ensurePair, quietUp } from './apply.ts'
import { type AddressInfo, FORWARD, ipIn, rows, setAddress } from './links.ts'
import type { NetworkNames } from './plan.ts'

/** Inner end of the way out. */
export const UPLINK = 'uplink'

/** Addresses per network: host and namespace, between the first and the last. */
const BLOCK = 4
const ATTEMPTS = 64

/**
 * Gives a network a way out: a pair between host and namespace with addresses of `range`, and
 * translation of addresses at both ends, because networks of different twins may have one subnet.
 * Machines reach neither the host nor each other's networks on it.
 *
 * @throws {DriverError} `failed`
 */
export async function applyUplink(
  host: HostCommands,
  { namespace, uplink }: NetworkNames,
  range: Subnet,
): Promise<void> {
  await ensurePair(host, uplink, UPLINK, namespace)
  await quietUp(host, uplink)
  const base = await claimBlock(host, uplink, range)
  await setAddress(host, UPLINK, `${writeIpv4(base + 2)}/30`, namespace)
  const route = ['route', 'replace', 'default', 'via', writeIpv4(base + 1), 'dev', UPLINK]
  await host.must('set the way out', ...ipIn(namespace), ...route)
  const inside = ['ip', 'netns', 'exec', namespace]
  await host.must('translate addresses of a network', ...inside, 'nft', INSIDE)
  await host.must('translate addresses of the networks', 'nft', outside(range))
  await host.must('let the host pass packets on', ...FORWARD)
}

const INSIDE = [
  'add table ip cvmd',
  'flush table ip cvmd',
  'add chain ip cvmd out { type nat hook postrouting priority 100; }',
  `add rule ip cvmd out oifname "${UPLINK}" masquerade`,
].join('; ')

/** One table for all networks; the same text whoever is first. */
function outside(range: Subnet): string {
  const table = 'inet cvmd_zos'
  return [
    `add table ${table}`,
    `flush table ${table}`,
    `add chain ${table} out { type nat hook postrouting priority 100; }`,
    `add rule ${table} out ip saddr ${writeSubnet(range)} oifname != "p-*" masquerade`,
    `add chain ${table} pass { type filter hook forward priority 0; }`,
    `add rule ${table} pass iifname "p-*" oifname "p-*" drop`,
    `add chain ${table} in { type filter hook input priority 0; }`,
    `add rule ${table} in iifname "p-*" ct state established,related accept`,
    `add rule ${table} in iifname "p-*" drop`,
  ].join('; ')
}

/** Keeps the block the interface has, or takes a free one. The kernel tells who else has it. */
async function claimBlock(host: HostCommands, name: string, range: Subnet): Promise<number> {
  const blocks = 2 ** (32 - range.prefix) / BLOCK
  const own = (await addresses(host, name)).find(
    (address) => address >= range.network && address <= range.broadcast,
  )
  if (own !== undefined) return own - (own % BLOCK)
  const start = Number.parseInt(Buffer.from(name).toString('hex').slice(-8), 16)
  for (let step = 0; step < Math.min(ATTEMPTS, blocks); step++) {
    const base = range.network + ((start + step) % blocks) * BLOCK
    await setAddress(host, name, `${writeIpv4(base + 1)}/30`)
    const holders = (await addresses(host)).filter((address) => address === base + 1)
    if (holders.length === 1) return base
  }
  throw new DriverError('failed', 'Cannot find a free address for the way out: widen its range')
}

async function addresses(host: HostCommands, name?: string): Promise<readonly number[]> {
  const one = name === undefined ? [] : ['dev', name]
  const text = await host.must('list addresses', 'ip', '-j', '-4', 'addr', 'show', ...one)
  return rows<{ addr_info?: readonly AddressInfo[] }>(text)
    .flatMap((row) => row.addr_info ?? [])
    .map(({ local }) => readIpv4(local))
    .filter((address) => address !== undefined)
}
