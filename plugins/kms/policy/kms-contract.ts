import { fromHex, sameBytes, toHex } from '../../../src/attest/hex.ts'
import {
  AbiReader,
  type AbiValue,
  abiArray,
  abiSelector,
  abiString,
  abiTuple,
  abiWord,
} from './abi.ts'
import type { BootInfo } from './boot-info.ts'
import type { Role } from './policy.ts'

/*
 * The contract `DstackKms` (Dstack-TEE/dstack, `kms/auth-eth/contracts/IAppAuth.sol` and
 * `DstackKms.sol` at f9f2d793). It passes the question on to the application's own contract, whose
 * address is the app id; the interface id 0x1e079198 of that one is the selector of `isAppAllowed`.
 */

const BOOT_INFO = '(address,bytes32,address,bytes32,bytes32,bytes32,bytes32,string,string[])'

const QUESTIONS: Readonly<Record<Role, Uint8Array>> = {
  app: abiSelector(`isAppAllowed(${BOOT_INFO})`),
  kms: abiSelector(`isKmsAllowed(${BOOT_INFO})`),
}

/** Call data of `gatewayAppId()`. */
export const GATEWAY_APP_ID = abiSelector('gatewayAppId()')
/** Call data of `appImplementation()`. */
export const APP_IMPLEMENTATION = abiSelector('appImplementation()')

/** Call data of `isAppAllowed` or `isKmsAllowed`; fields that were not measured are zero. */
export function encodeQuestion(role: Role, info: BootInfo): Uint8Array {
  const struct = abiTuple([
    field(info.appId, 20),
    field(info.composeHash, 32),
    field(info.instanceId, 20),
    field(info.deviceId, 32),
    field(info.mrAggregated, 32),
    field(info.mrSystem, 32),
    field(info.osImageHash, 32),
    abiString(info.tcbStatus),
    abiArray(info.advisoryIds.map(abiString)),
  ])
  return Buffer.concat([QUESTIONS[role], abiTuple([struct]).bytes])
}

/**
 * Reads what the two functions return.
 *
 * @throws {PolicyError} `POLICY_MALFORMED`.
 */
export function decodeAnswer(bytes: Uint8Array): {
  readonly isAllowed: boolean
  readonly reason: string
} {
  const reader = new AbiReader(bytes)
  return { isAllowed: reader.bool(0), reason: reader.string(1) }
}

/** @throws {PolicyError} `POLICY_MALFORMED`. */
export const decodeText = (bytes: Uint8Array): string => new AbiReader(bytes).string(0)

/** `0x` and 40 digits. @throws {PolicyError} `POLICY_MALFORMED`. */
export const decodeAddress = (bytes: Uint8Array): string =>
  `0x${toHex(new AbiReader(bytes).address(0))}`

const ERROR = abiSelector('Error(string)')
const PANIC = abiSelector('Panic(uint256)')

/** Why a call was reverted, as Solidity writes it; undefined for an error of the contract's own. */
export function revertReason(data: Uint8Array): string | undefined {
  const selector = data.subarray(0, 4)
  const reader = new AbiReader(data.subarray(4))
  try {
    if (sameBytes(selector, ERROR)) return reader.string(0)
    if (sameBytes(selector, PANIC)) return `panic 0x${toHex(reader.word(0)).replace(/^0+/, '')}`
  } catch {
    return undefined
  }
  return undefined
}

function field(hex: string, bytes: 20 | 32): AbiValue {
  const value = fromHex(hex, 'boot info')
  if (value.length !== bytes && value.length !== 0) {
    throw new RangeError(
      `Cannot ask the contract: "${hex}" has ${value.length} bytes, not ${bytes}`,
    )
  }
  return abiWord(value)
}
