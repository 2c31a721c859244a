import type { Identity } from './identity.ts'

/** Long enough for a handshake and clocks that differ a little. */
const TTL_S = 120

export interface TokenClaims {
  readonly twinId: number
  readonly session?: string
  /** Seconds since 1970; default now. */
  readonly issued?: number
  /** Seconds it lasts. Default: 120. */
  readonly ttl?: number
}

/**
 * What a relay wants to see from who connects (spec §10.4): shaped like a JSON Web Token, but the
 * algorithm in its header is a name only, and the signature has its type byte.
 */
export function relayToken(identity: Identity, claims: TokenClaims): string {
  const { twinId, session, issued = Math.floor(Date.now() / 1000), ttl = TTL_S } = claims
  const head = base64url({ alg: 'RS512', typ: 'JWT' })
  const body = base64url({ sub: twinId, iat: issued, exp: issued + ttl, sid: session })
  const signature = identity.sign(new TextEncoder().encode(`${head}.${body}`))
  return `${head}.${body}.${Buffer.from(signature).toString('base64url')}`
}

function base64url(json: object): string {
  return Buffer.from(JSON.stringify(json)).toString('base64url')
}
