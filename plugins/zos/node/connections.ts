import type { HostFiles } from './host-files.ts'

/** Some 400,000 connections; no more are counted of each family. */
const MAX_BYTES = 64 * 1024 * 1024

/** `sl local_address rem_address st …` with the state ESTABLISHED (proc_net_tcp, include/net/tcp_states.h). */
const ESTABLISHED = /^ *[0-9]+: [0-9A-F]+:[0-9A-F]{4} [0-9A-F]+:[0-9A-F]{4} 01 /

/** Number of established TCP connections of this network namespace; 0 when nobody may tell. */
export async function countConnections(files: HostFiles): Promise<number> {
  let count = 0
  const each = (line: string) => {
    if (ESTABLISHED.test(line)) count++
    return undefined
  }
  await files.eachLine('/proc/net/tcp', MAX_BYTES, each, 'Open connections are given as 0')
  // Not there without IPv6.
  await files.eachLine('/proc/net/tcp6', MAX_BYTES, each)
  return count
}
