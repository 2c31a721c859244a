import { RegistryError } from '../registry.ts'

/** One node of the chain that answers JSON-RPC. */
export interface Endpoint {
  /** What errors call it: no path or query, where keys of hosted nodes are. */
  readonly shown: string
  /**
   * @returns The reply's `result`.
   * @throws {RegistryError} Or the signal's reason.
   */
  call(method: string, params: readonly unknown[], signal: AbortSignal): Promise<unknown>
  /** Ends its connection and what waits on it; the next call makes another. */
  drop(): void
}

/** Longest answer that is read, in bytes: some hundred contracts at their longest. */
export const MAX_ANSWER_BYTES = 8 * 1024 * 1024

export function unreachable(endpoint: string, why: string): RegistryError {
  return new RegistryError('REGISTRY_UNREACHABLE', `${endpoint}: ${why}`)
}

export function badAnswer(endpoint: string, why: string): RegistryError {
  return new RegistryError('REGISTRY_INVALID', `${endpoint}: ${why}`)
}

/** The text of a JSON-RPC 2.0 request. */
export function requestText(id: number, method: string, params: readonly unknown[]): string {
  return JSON.stringify({ jsonrpc: '2.0', id, method, params })
}

/** A reply, whoever it is for. */
export interface RpcReply {
  /** Undefined where it answers no request, such as what a subscription tells. */
  readonly id: number | undefined
  readonly result: unknown
  /** Code and text of an error; the text is the other side's, and cut. */
  readonly error: string | undefined
}

/** Reads a JSON-RPC 2.0 reply; undefined for what is none. */
export function readReply(text: string): RpcReply | undefined {
  let reply: unknown
  try {
    reply = JSON.parse(text)
  } catch {
    return undefined
  }
  if (typeof reply !== 'object' || reply === null || Array.isArray(reply)) return undefined
  const { id, result, error } = reply as Record<string, unknown>
  return {
    id: typeof id === 'number' ? id : undefined,
    result: result ?? null,
    error: error === undefined || error === null ? undefined : errorText(error),
  }
}

function errorText(error: unknown): string {
  const { code, message } = error as Record<string, unknown>
  const text = typeof message === 'string' ? JSON.stringify(message.slice(0, 200)) : 'no text'
  return `error ${typeof code === 'number' ? code : '?'}, ${text}`
}
