import type { BootInfo } from './boot-info.ts'
import { EthereumNode } from './json-rpc.ts'
import {
  APP_IMPLEMENTATION,
  decodeAddress,
  decodeAnswer,
  decodeText,
  encodeQuestion,
  GATEWAY_APP_ID,
} from './kms-contract.ts'
import {
  type Decision,
  deny,
  denyUnmeasured,
  type Policy,
  PolicyError,
  type Role,
} from './policy.ts'
import { asking, type Service } from './service.ts'

/** Which contract decides, and who is asked about it. */
export interface ChainOptions {
  /** A node's JSON-RPC. It is believed: it could show an older or another state of the chain. */
  readonly service: Service
  /** `0x` and 40 digits. */
  readonly contract: string
  readonly chainId: number
  /** How many blocks must have followed the state that counts. */
  readonly confirmations: number
}

/** Asks the contract `DstackKms` on a chain, by `eth_call`, about one block per decision. */
export function chainPolicy({ service, contract, chainId, confirmations }: ChainOptions): Policy {
  const ask = <T>(
    signal: AbortSignal | undefined,
    work: (call: (data: Uint8Array) => Promise<Uint8Array>) => Promise<T>,
  ): Promise<T> =>
    asking(service, signal, async (ask) => {
      const node = new EthereumNode(ask)
      const found = await node.chainId()
      if (found !== chainId) {
        const message = `Cannot ask contract ${contract}: chain is ${found}, expected ${chainId}`
        throw new PolicyError('POLICY_CHAIN', message)
      }
      const head = await node.blockNumber()
      if (head < confirmations) {
        const message = `Cannot ask contract ${contract}: chain has ${head} blocks, ${confirmations} must follow`
        throw new PolicyError('POLICY_CHAIN', message)
      }
      return work((data) => node.call(contract, data, head - confirmations))
    })

  const decide = async (role: Role, info: BootInfo, signal?: AbortSignal): Promise<Decision> => {
    const denied = denyUnmeasured(info, role)
    if (denied) return denied
    return ask(signal, async (call) => {
      const { isAllowed, reason } = decodeAnswer(await call(encodeQuestion(role, info)))
      if (!isAllowed) return deny(reason)
      return { allowed: true, gatewayAppId: decodeText(await call(GATEWAY_APP_ID)) }
    })
  }

  return {
    app: (info, signal) => decide('app', info, signal),
    kms: (info, signal) => decide('kms', info, signal),
    describe: (signal) =>
      ask(signal, async (call) => ({
        isDev: false,
        gatewayAppId: decodeText(await call(GATEWAY_APP_ID)),
        kmsContractAddress: contract,
        chainId,
        appImplementation: await call(APP_IMPLEMENTATION).then(decodeAddress, absentInOlder),
        ethRpcUrl: new URL(service.url).origin,
      })),
  }
}

/** The first contracts have no such function, which is no reason to know nothing else of them. */
function absentInOlder(error: unknown): undefined {
  if (error instanceof PolicyError && error.code === 'POLICY_REVERTED') return undefined
  throw error
}
