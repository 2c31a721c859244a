import { Throttle, type ThrottleLimits } from '../../../src/auth/throttle.ts'
import { messageOf } from '../../../src/errors.ts'
import { verifyEd25519 } from '../deployment/ed25519.ts'
import { verifySr25519 } from '../deployment/sr25519.ts'
import type { Registry, Twin } from '../registry/registry.ts'
import { ZosError } from '../zos-error.ts'
import { checkChallengeTime, readChallenge } from './challenge.ts'
import { quoted, refusal, twinIdOf } from './refusal.ts'
import { type Clocks, Replays } from './replays.ts'
import { checkTokenTime, hasToken, readToken } from './token.ts'

export interface AuthenticatorOptions {
  readonly registry: Pick<Registry, 'twin'>
  /** Takes `X-Zos-Twin` from anybody, not only over a Unix socket. */
  readonly trustTwinHeader: boolean
  readonly clocks?: Clocks | undefined
  /** Failures that a peer has. */
  readonly throttle?: ThrottleLimits | undefined
}

/** What a request says about who sends it. */
export interface Credentials {
  /** First value of a header, by its name in lower case. */
  header(name: string): string | undefined
  readonly unixSocket: boolean
  /** Who shares a count of failures, as `peerGroup` of `src/auth/throttle.ts` gives it. */
  readonly peer: string
  /** Whether an `X-Auth` is good for it once only. */
  readonly once: boolean
  readonly signal?: AbortSignal | undefined
}

export interface Authenticator {
  /**
   * The twin that calls, by one of the three ways of spec zos §10.5; the first one that is tried has
   * to succeed. Undefined when none is tried.
   *
   * @throws {ZosError} `authentication` with what is wrong; `unavailable` when the registry cannot be
   *   asked, or the peer failed too often.
   */
  authenticate(credentials: Credentials): Promise<number | undefined>
}

/** What is to be proven of a twin. */
interface Proof {
  readonly twinId: number
  readonly signed: Uint8Array
  readonly signature: Uint8Array
}

const CLOCKS: Clocks = { wall: () => Date.now(), monotonic: () => performance.now() }

export function createAuthenticator(options: AuthenticatorOptions): Authenticator {
  const { registry, trustTwinHeader, clocks = CLOCKS } = options
  const throttle = new Throttle(options.throttle, () => clocks.monotonic())
  const replays = new Replays(clocks)

  async function byToken(header: string, credentials: Credentials): Promise<number> {
    const token = readToken(header)
    checkTokenTime(token, clocks.wall() / 1000)
    await prove(credentials, token, async ({ keyType, publicKey, id }) => {
      if (keyType === 'sr25519') {
        throw refusal(`twin ${id} has an sr25519 key, which signs no EdDSA token: use X-Auth`)
      }
      return verifyEd25519(publicKey, token.signed, token.signature)
    })
    return token.twinId
  }

  async function byChallenge(header: string, credentials: Credentials): Promise<number> {
    const challenge = readChallenge(header)
    checkChallengeTime(challenge, clocks.wall() / 1000)
    const { signed, signature } = challenge
    await prove(credentials, challenge, async ({ keyType, publicKey }) => {
      if (keyType !== 'sr25519' && verifyEd25519(publicKey, signed, signature)) return true
      return keyType !== 'ed25519' && (await verifySr25519(publicKey, signed, signature))
    })
    // Again, for it may have waited for the registry.
    checkChallengeTime(challenge, clocks.wall() / 1000)
    if (credentials.once) replays.take(challenge)
    return challenge.twinId
  }

  async function prove(
    { peer, signal }: Credentials,
    { twinId }: Proof,
    isRight: (twin: Twin) => Promise<boolean>,
  ): Promise<void> {
    refuseIfLate(peer)
    const twin = await twinOf(twinId, signal)
    // Many may have been on their way when the first of them failed.
    refuseIfLate(peer)
    if (twin !== undefined && (await isRight(twin))) return
    throttle.fail(peer)
    throw refusal(
      twin === undefined
        ? `twin ${twinId} is not in the registry`
        : `the signature is not that of twin ${twinId}`,
    )
  }

  function refuseIfLate(peer: string): void {
    const wait = throttle.wait(peer)
    if (wait === 0) return
    throw new ZosError('unavailable', `too many failed authentications, try again in ${wait} s`)
  }

  async function twinOf(id: number, signal: AbortSignal | undefined): Promise<Twin | undefined> {
    try {
      return await registry.twin(id, signal)
    } catch (cause) {
      signal?.throwIfAborted()
      const text = `failed to get public key for twin '${id}': ${messageOf(cause)}`
      throw new ZosError('unavailable', text, { cause })
    }
  }

  function byName(header: string, unixSocket: boolean): number {
    if (!unixSocket && !trustTwinHeader) {
      throw refusal(
        'X-Zos-Twin is taken over a Unix socket only, sign with X-Auth or a token instead',
      )
    }
    const twinId = twinIdOf(header)
    if (twinId === undefined) {
      throw refusal(`invalid X-Zos-Twin: ${quoted(header)} is not the id of a twin`)
    }
    return twinId
  }

  return {
    async authenticate(credentials) {
      const authorization = credentials.header('authorization')
      // Another kind of credential is for the daemon, not for the node's API.
      if (authorization !== undefined && hasToken(authorization)) {
        return await byToken(authorization, credentials)
      }
      const challenge = credentials.header('x-auth')
      if (challenge !== undefined) return await byChallenge(challenge, credentials)
      const name = credentials.header('x-zos-twin')
      return name === undefined ? undefined : byName(name, credentials.unixSocket)
    },
  }
}
