import * as v from 'valibot'
import { fromHex, isHex } from '../../../src/attest/hex.ts'
import { revertReason } from './kms-contract.ts'
import { PolicyError, quoted } from './policy.ts'
import type { Ask } from './service.ts'

/** JSON-RPC 2.0 §5; `data` of an error is what the contract reverted with. */
const RpcAnswer = v.object({
  jsonrpc: v.literal('2.0'),
  id: v.nullable(v.number()),
  result: v.optional(v.unknown()),
  error: v.optional(
    v.object({ code: v.number(), message: v.string(), data: v.optional(v.unknown()) }),
  ),
})

/** The code of a call that a contract reverted (Ethereum execution APIs, `eth_call`). */
const REVERTED = 3

/** Asks an Ethereum node for the few things that are needed of it. */
export class EthereumNode {
  readonly #ask: Ask
  #requests = 0

  constructor(ask: Ask) {
    this.#ask = ask
  }

  /** @throws {PolicyError} */
  chainId(): Promise<number> {
    return this.#number('eth_chainId')
  }

  /** Of the newest block. @throws {PolicyError} */
  blockNumber(): Promise<number> {
    return this.#number('eth_blockNumber')
  }

  /**
   * Calls a function of a contract as it was after a block.
   *
   * @throws {PolicyError} `POLICY_REVERTED`; `POLICY_CHAIN` when nothing answers there.
   */
  async call(contract: string, data: Uint8Array, block: number): Promise<Uint8Array> {
    const call = { to: contract, data: `0x${Buffer.from(data).toString('hex')}` }
    const result = await this.#request('eth_call', [call, `0x${block.toString(16)}`])
    const hex = typeof result === 'string' && result.startsWith('0x') ? result.slice(2) : undefined
    if (hex === undefined || !isHex(hex)) throw malformed('eth_call', 'its result is not hex')
    if (hex !== '') return fromHex(hex, 'result')
    throw new PolicyError('POLICY_CHAIN', `Cannot ask contract ${contract}: there is none`)
  }

  async #number(method: string): Promise<number> {
    const result = await this.#request(method, [])
    const value = typeof result === 'string' && /^0x[0-9a-f]{1,14}$/i.test(result) && Number(result)
    if (Number.isSafeInteger(value)) return value as number
    throw malformed(method, 'its result is no number')
  }

  async #request(method: string, params: readonly unknown[]): Promise<unknown> {
    this.#requests += 1
    const id = this.#requests
    const {
      result,
      error,
      id: answered,
    } = await this.#ask(RpcAnswer, '', {
      jsonrpc: '2.0',
      id,
      method,
      params,
    })
    if (error) throw refused(method, error)
    if (answered !== id) throw malformed(method, `it answers request ${answered}, not ${id}`)
    return result
  }
}

function refused(
  method: string,
  { code, message, data }: { code: number; message: string; data?: unknown },
): PolicyError {
  if (code !== REVERTED && !message.startsWith('execution reverted')) {
    const told = quoted(message)
    return new PolicyError('POLICY_REFUSED', `Cannot ask chain: ${method} failed: ${code}: ${told}`)
  }
  const hex = typeof data === 'string' && data.startsWith('0x') ? data.slice(2) : ''
  const reason = isHex(hex) ? revertReason(fromHex(hex, 'revert data')) : undefined
  const told = quoted(reason ?? message)
  return new PolicyError('POLICY_REVERTED', `Cannot ask contract: it reverted: ${told}`)
}

function malformed(method: string, why: string): PolicyError {
  return new PolicyError('POLICY_MALFORMED', `Cannot read answer of ${method}: ${why}`)
}
