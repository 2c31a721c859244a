import { md5 } from '@noble/hashes/legacy'

const ALPHABET = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'
const LENGTH = 13

/** Id of a network, for devices and the engine: 13 characters (spec zos §4.3). */
export function networkId(twinId: number, name: string): string {
  return shortId(`${twinId}:${name}`)
}

/**
 * Name of a network device of a workload, 13 characters.
 *
 * @param suffix What it is for: `pub`, or the name of a network.
 */
export function deviceName(workloadId: string, suffix: string): string {
  return shortId(`${workloadId}:${suffix}`)
}

function shortId(text: string): string {
  return base58(md5(new TextEncoder().encode(text))).slice(0, LENGTH)
}

/** With Bitcoin's alphabet: a zero byte in front is a `1`. */
function base58(bytes: Uint8Array): string {
  let rest = bytes.reduce((value, byte) => value * 256n + BigInt(byte), 0n)
  let digits = ''
  for (; rest > 0n; rest /= 58n) digits = ALPHABET[Number(rest % 58n)] + digits
  const zeros = bytes.findIndex((byte) => byte !== 0)
  return '1'.repeat(zeros < 0 ? bytes.length : zeros) + digits
}
