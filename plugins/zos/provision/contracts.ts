import { toHex } from '../../../src/attest/hex.ts'
import { messageOf } from '../../../src/errors.ts'
import { hashOf } from '../deployment/hash.ts'
import type { Deployment } from '../model.ts'
import type { Contract, NodeContract, Registry } from '../registry/registry.ts'
import { bounded, sleep } from '../waiting.ts'
import { ZosError } from '../zos-error.ts'
import type { Times } from './options.ts'

/** Looks contracts up, with patience: a chain node may lag behind (spec §14, zos#1696). */
export interface Contracts {
  /**
   * A contract, which is looked for again for some seconds when it is not there.
   *
   * @param soon Not where the registry can look again at what it keeps: that is then certain.
   * @throws {Error} When the registry cannot be asked; that is not tried again.
   */
  find(id: bigint, signal: AbortSignal, soon?: boolean): Promise<Contract | undefined>
  /**
   * The checks of §7.2, and that the contract is the twin's and not deleted.
   *
   * @throws {ZosError} In the texts of the spec.
   */
  check(deployment: Deployment, signal: AbortSignal): Promise<Checked>
}

const HASH_DIFFERS = 'contract hash does not match deployment hash'

/** A contract that is in order. */
export interface Checked {
  readonly contract: NodeContract
  /** It is in its grace period. */
  readonly isPaused: boolean
}

export function createContracts(registry: Registry, times: Times): Contracts {
  const ask = <T>(signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>) =>
    bounded(times.registry, signal, work)

  /** One that fails leaves what is known; asking for that says why. */
  const refresh = (signal: AbortSignal) =>
    ask(signal, async (limited) => registry.refresh?.(limited)).catch(() => undefined)

  const find: Contracts['find'] = async (id, signal, soon = false) => {
    const latest = performance.now() + times.contract
    for (let fresh = false; ; ) {
      const contract = await ask(signal, (limited) => registry.contract(id, limited))
      if (!contract && !fresh && registry.refresh) {
        fresh = true
        await refresh(signal)
        continue
      }
      if (contract || (soon && fresh)) return contract
      if (performance.now() + times.contractAgain > latest) return undefined
      await sleep(times.contractAgain, signal)
    }
  }

  /** Clients change the contract first and ask for the update at once; what is kept may be older. */
  const isLate = (error: unknown) => error instanceof ZosError && error.message === HASH_DIFFERS

  const check = async (deployment: Deployment, signal: AbortSignal): Promise<Checked> => {
    const id = deployment.contractId
    const contract = await find(id, signal).catch((cause) => {
      throw new ZosError('unavailable', `failed to get deployment contract: ${messageOf(cause)}`, {
        cause,
      })
    })
    if (!contract) {
      throw new ZosError('invalid', `failed to get deployment contract: contract '${id}' not found`)
    }
    const { data } = contract
    if (data.type !== 'node') {
      throw new ZosError('invalid', 'invalid contract type, expecting node contract')
    }
    if (contract.state === 'deleted') {
      throw new ZosError('invalid', `invalid contract state, contract '${id}' is deleted`)
    }
    if (contract.twinId !== deployment.twinId) {
      throw new ZosError('forbidden', `invalid contract owner, contract '${id}' is of another twin`)
    }
    const node = await ask(signal, async (limited) => {
      // Only that it can be read is checked, as in the reference.
      await registry.rentContract(limited)
      return registry.node(limited)
    }).catch((cause) => {
      throw new ZosError('unavailable', 'failed to check node rent state', { cause })
    })
    if (data.nodeId !== node.id) {
      throw new ZosError('invalid', 'invalid node address in contract')
    }
    const hash = hashOf(deployment)
    if (data.deploymentHash.toLowerCase() !== toHex(hash)) {
      throw new ZosError('invalid', HASH_DIFFERS)
    }
    return { contract: data, isPaused: contract.state === 'grace_period' }
  }

  return {
    find,
    check: async (deployment, signal) => {
      try {
        return await check(deployment, signal)
      } catch (error) {
        if (!isLate(error)) throw error
        if (registry.refresh) await refresh(signal)
        else await sleep(times.contractAgain, signal)
        return await check(deployment, signal)
      }
    },
  }
}
