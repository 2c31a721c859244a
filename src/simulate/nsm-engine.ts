import { createHash, randomBytes } from 'node:crypto'
import { encode } from 'cborg'
import type { Identity } from './identity.ts'
import { markedHash } from './marks.ts'
import { createNitroChain, LEAF_LIFETIME_MS, type NitroChain } from './nitro-pki.ts'
import { signDocument } from './nsm-document.ts'
import { type NsmArguments, Refusal, readRequest } from './nsm-request.ts'

/** What a module is made with. */
export interface NsmEngineOptions {
  /** Unix milliseconds; default the system's clock. */
  readonly now?: (() => number) | undefined
  /** Default one with recognisably made-up digits. */
  readonly moduleId?: string | undefined
}

const PCRS = 32
/** The hypervisor locks these when an enclave starts. */
const LOCKED_AT_START = 16
/** Image, kernel, application, parent instance: never zero outside of debug mode. */
const MEASURED: readonly number[] = [0, 1, 2, 4]
const RANDOM_BYTES = 256
/** Of each optional field of a document: what genuine ones hold (spec nitro §3). */
const MAX_FIELD_BYTES = 1024
const MODULE_ID = 'i-0123456789abcdef0-enc0123456789abcdef'

interface Pcr {
  locked: boolean
  /** 48 bytes. */
  value: Uint8Array
}

/** The fields of an answer by name; undefined for an answer that is the bare name. */
type Fields = Readonly<Record<string, unknown>> | undefined

/** A Nitro Secure Module in software: requests and responses are those of spec nitro §2. */
export class NsmEngine {
  readonly #root: Identity
  readonly #now: () => number
  readonly #moduleId: string
  readonly #pcrs: readonly Pcr[] = Array.from({ length: PCRS }, (_, index) => startingPcr(index))
  #chain: NitroChain | undefined
  #madeAt = 0

  /** @param root Who vouches for the documents. */
  constructor(root: Identity, options: NsmEngineOptions = {}) {
    this.#root = root
    this.#now = options.now ?? Date.now
    this.#moduleId = options.moduleId ?? MODULE_ID
  }

  /** Answers one request (CBOR) with one response; a refusal is `{"Error": name}`. */
  answer(request: Uint8Array): Uint8Array {
    try {
      const { operation, given } = readRequest(request)
      const fields = given === undefined ? this.#ask(operation) : this.#act(operation, given)
      return encode(fields === undefined ? operation : { [operation]: fields })
    } catch (error) {
      if (error instanceof Refusal) return encode({ Error: error.code })
      throw error
    }
  }

  /** The operations that take nothing. */
  #ask(operation: string): Fields {
    switch (operation) {
      case 'DescribeNSM':
        return {
          version_major: 1,
          version_minor: 0,
          version_patch: 0,
          module_id: this.#moduleId,
          max_pcrs: PCRS,
          locked_pcrs: [...this.#lockedPcrs().keys()],
          digest: 'SHA384',
        }
      case 'GetRandom':
        return { random: randomBytes(RANDOM_BYTES) }
      default:
        throw new Refusal('InvalidOperation')
    }
  }

  /** The operations that take arguments. */
  #act(operation: string, given: NsmArguments): Fields {
    switch (operation) {
      case 'DescribePCR': {
        const pcr = this.#pcr(given.only('index').u16('index'))
        return { lock: pcr.locked, data: pcr.value }
      }
      case 'ExtendPCR': {
        const data = given.only('index', 'data').bytes('data')
        const pcr = this.#unlockedPcr(given.u16('index'))
        pcr.value = createHash('sha384').update(pcr.value).update(data).digest()
        return { data: pcr.value }
      }
      case 'LockPCR':
        this.#unlockedPcr(given.only('index').u16('index')).locked = true
        return undefined
      case 'LockPCRs':
        this.#lockBelow(given.only('range').u16('range'))
        return undefined
      case 'Attestation':
        return { document: this.#attest(given.only('public_key', 'user_data', 'nonce')) }
      default:
        throw new Refusal('InvalidOperation')
    }
  }

  #pcr(index: number): Pcr {
    const pcr = this.#pcrs[index]
    if (pcr === undefined) throw new Refusal('InvalidIndex')
    return pcr
  }

  #unlockedPcr(index: number): Pcr {
    const pcr = this.#pcr(index)
    if (pcr.locked) throw new Refusal('ReadOnlyIndex')
    return pcr
  }

  #lockBelow(range: number): void {
    if (range > PCRS) throw new Refusal('InvalidIndex')
    for (const pcr of this.#pcrs.slice(0, range)) pcr.locked = true
  }

  #lockedPcrs(): Map<number, Uint8Array> {
    const locked = [...this.#pcrs.entries()].filter(([, pcr]) => pcr.locked)
    return new Map(locked.map(([index, { value }]) => [index, value]))
  }

  #attest(given: NsmArguments): Uint8Array {
    const [publicKey, userData, nonce] = [
      documentField(given, 'public_key'),
      documentField(given, 'user_data'),
      documentField(given, 'nonce'),
    ]
    const timestamp = this.#now()
    const pcrs = this.#lockedPcrs()
    const fields = { moduleId: this.#moduleId, timestamp, pcrs, publicKey, userData, nonce }
    return signDocument(fields, this.#chainAt(timestamp))
  }

  /** The chain, everything below the root made anew well before the enclave's certificate ends. */
  #chainAt(now: number): NitroChain {
    const fresh = now >= this.#madeAt && now < this.#madeAt + LEAF_LIFETIME_MS / 2
    if (this.#chain === undefined || !fresh) {
      this.#chain = createNitroChain(this.#root, this.#moduleId, now)
      this.#madeAt = now
    }
    return this.#chain
  }
}

function documentField(given: NsmArguments, name: string): Uint8Array | null {
  const value = given.optionalBytes(name)
  if (value !== null && value.byteLength > MAX_FIELD_BYTES) throw new Refusal('InputTooLarge')
  return value
}

function startingPcr(index: number): Pcr {
  const value = MEASURED.includes(index) ? markedHash('sha384', `pcr${index}`) : new Uint8Array(48)
  return { locked: index < LOCKED_AT_START, value }
}
