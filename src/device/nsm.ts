import { createHash } from 'node:crypto'
import { EvidenceError } from '../attest/evidence-error.ts'
import { sameBytes } from '../attest/hex.ts'
import { type NitroDocument, parseDocument } from '../attest/nitro/document.ts'
import type { CallOptions, NsmDescription, NsmDevice, NsmFields, PcrState } from './devices.ts'
import {
  attestation,
  describeNsm,
  describePcr,
  extendPcr,
  getRandom,
  invalidResponse,
  lockPcr,
  lockPcrs,
  type NsmCall,
} from './nsm-messages.ts'
import { NSM } from './paths.ts'
import type { Transport } from './transport.ts'

/** Carries a call out when its turn comes; see `DeviceQueue.run`. Equal keys may share a result. */
export type RunOnDevice = <T>(
  work: () => Promise<T>,
  options?: CallOptions & { readonly key?: string },
) => Promise<T>

const runAtOnce: RunOnDevice = (work) => work()

/** The Nitro Secure Module behind a transport. */
export class Nsm implements NsmDevice {
  readonly #transport: Transport
  readonly #run: RunOnDevice

  /** @param run Keeps calls apart: the driver blocks all others while one is under way. */
  constructor(transport: Transport, run: RunOnDevice = runAtOnce) {
    this.#transport = transport
    this.#run = run
  }

  describe(options?: CallOptions): Promise<NsmDescription> {
    return this.#ask(describeNsm, options)
  }

  random(options?: CallOptions): Promise<Uint8Array> {
    return this.#change(getRandom, options)
  }

  describePcr(index: number, options?: CallOptions): Promise<PcrState> {
    return this.#ask(() => describePcr(index), options)
  }

  extendPcr(index: number, data: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    return this.#change(() => extendPcr(index, data), options)
  }

  lockPcr(index: number, options?: CallOptions): Promise<void> {
    return this.#change(() => lockPcr(index), options)
  }

  lockPcrs(range: number, options?: CallOptions): Promise<void> {
    return this.#change(() => lockPcrs(range), options)
  }

  async attest(fields: NsmFields, options?: CallOptions): Promise<Uint8Array> {
    const document = await this.#ask(() => attestation(fields), options)
    checkDocument(document, fields)
    return document
  }

  /** A call that tells what is so: all who ask at the same time may share the answer. */
  async #ask<T>(make: () => NsmCall<T>, options: CallOptions | undefined): Promise<T> {
    const call = make()
    const key = createHash('sha256').update(call.request).digest('hex')
    return this.#send(call, { ...options, key })
  }

  /** A call that has an effect, or another answer each time. */
  async #change<T>(make: () => NsmCall<T>, options: CallOptions | undefined): Promise<T> {
    return this.#send(make(), options)
  }

  async #send<T>(
    { request, readResponse }: NsmCall<T>,
    options: Parameters<RunOnDevice>[1],
  ): Promise<T> {
    // Each caller reads for itself, so that no two hold the same bytes.
    return readResponse(await this.#run(() => this.#transport.ioctl(NSM, 'nsm', request), options))
  }
}

/** A module, or a host between, that answers another's request must not go unnoticed. */
function checkDocument(bytes: Uint8Array, asked: NsmFields): void {
  const document = readDocument(bytes)
  for (const field of ['userData', 'nonce', 'publicKey'] as const) {
    // The module may write null for what is empty.
    if (!sameBytes(asked[field] ?? NONE, document[field] ?? NONE)) {
      throw invalidResponse('Attestation', `carries another ${field} than was asked for`)
    }
  }
}

const NONE = new Uint8Array(0)

function readDocument(bytes: Uint8Array): NitroDocument {
  try {
    return parseDocument(bytes)
  } catch (error) {
    if (!(error instanceof EvidenceError)) throw error
    throw invalidResponse('Attestation', 'holds no attestation document', error)
  }
}
