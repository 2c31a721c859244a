import type { Ip } from '../../model.ts'
import { type RunTool, ToolError } from '../tools.ts'

/** What a card on the public bridge may send from. */
export interface Card {
  /** Interface on the host, as `deviceName` gives it. */
  readonly name: string
  readonly mac: string
  /** '' for none. */
  readonly ipv4: Ip
  /** '' for none; undefined for any, where the network is not known. */
  readonly ipv6: Ip | undefined
  /** Of its MAC address. */
  readonly linkLocal: Ip
}

/** Keeps a card from using an address that is another's. */
export interface IpFilter {
  /** Why it cannot be had; undefined when it can. Never throws. */
  probe(signal?: AbortSignal): Promise<string | undefined>
  /** In place of what was there. */
  set(card: Card): Promise<void>
  /** What is not there is no error. */
  remove(name: string): Promise<void>
  /** Names of all cards. */
  names(): Promise<readonly string[]>
}

const TABLE = 'bridge cvmd_zos'

/** By nftables, in a table of its own, with a chain `r-<card>` for each; all of one at once. */
export function createNftFilter(run: RunTool): IpFilter {
  return {
    async probe(signal) {
      try {
        await run(['nft', `add table ${TABLE}`], { signal })
        return undefined
      } catch (error) {
        return error instanceof Error ? error.message : String(error)
      }
    },

    async set(card) {
      await run(['nft', commandsFor(card).join('; ')])
    },

    async remove(name) {
      const chain = `${TABLE} r-${name}`
      try {
        // A chain that was not there is made and removed.
        await run([
          'nft',
          `add table ${TABLE}; add chain ${chain}; flush chain ${chain}; delete chain ${chain}`,
        ])
      } catch (error) {
        // Without nft there are no chains either.
        if (!(error instanceof ToolError && error.exitCode === undefined)) throw error
      }
    },

    async names() {
      const listed = await run(['nft', 'list', 'table', ...TABLE.split(' ')]).catch(() => '')
      return [...listed.matchAll(/^\s*chain r-([A-Za-z0-9]+) \{/gm)].map(([, name = '']) => name)
    },
  }
}

function commandsFor({ name, mac, ipv4, ipv6, linkLocal }: Card): string[] {
  const chain = `${TABLE} r-${name}`
  const rule = (text: string) => `add rule ${chain} ${text}`
  const four =
    ipv4 === ''
      ? [rule('ether type { ip, arp } drop')]
      : // Whoever looks whether an address is free asks from none.
        [rule(`arp saddr ip != { 0.0.0.0, ${ipv4} } drop`), rule(`ip saddr != ${ipv4} drop`)]
  const six =
    ipv6 === ''
      ? [rule('ether type ip6 drop')]
      : ipv6 === undefined
        ? []
        : [rule(`ip6 saddr != { ::, ${linkLocal}, ${ipv6} } drop`)]
  return [
    `add table ${TABLE}`,
    `add chain ${chain} { type filter hook prerouting priority -300 ; policy accept ; }`,
    `flush chain ${chain}`,
    rule(`iifname != "${name}" accept`),
    rule(`ether saddr != ${mac} drop`),
    ...four,
    ...six,
  ]
}
