import type { Context, Hono } from 'hono'
import type { z } from 'zod'
import { callOf } from '../../../src/attester/call.ts'
import { hex } from '../../../src/compat/prpc/bytes.ts'
import { type PrpcMethod, prpcMethod } from '../../../src/compat/prpc/method.ts'
import { prpcJson } from '../../../src/compat/prpc.ts'
import { toApiError } from '../../../src/errors.ts'
import type { Counter } from '../../../src/metrics.ts'
import type { PluginEnv } from '../../../src/plugin.ts'
import type { Agent } from './agent.ts'
import { keyAlgorithm, keyAlgorithmV1, signingAlgorithm } from './algorithms.ts'
import type { CertificateRequest, IssuedKey } from './issuer.ts'
import {
  DeriveKeyRequest,
  KeyRequest,
  KeyRequestV1,
  SignRequest,
  TlsKeyRequest,
  VerifyRequest,
} from './messages.ts'

/** What the methods need; there once the plugin has started. */
export interface AgentParts {
  readonly agent: () => Agent
  /** Counts calls by method and outcome. */
  readonly requests: Counter
}

/** One method of the agent, as the table below lists it. */
interface Method<Request extends z.ZodObject> {
  /** As figures call it. */
  readonly name: string
  readonly paths: readonly string[]
  readonly request: Request
  readonly summary: string
  readonly scope: 'kms:keys' | 'kms:certificates' | 'kms:sign'
  /** The answer's members in the order of their declaration. */
  answer(args: z.output<Request>, c: Context<PluginEnv>): object | Promise<object>
}

const local = (method: string) => [`/${method}`, `/v0/${method}`]
const tappd = (method: string) => [`/prpc/Tappd.${method}`, `/prpc/${method}`]

/** The key methods of the guest agent: unversioned and v0, v1, and the legacy `Tappd` service. */
export function agentMethods(app: Hono<PluginEnv>, parts: AgentParts): void {
  const { agent } = parts

  function method<Request extends z.ZodObject>(declared: Method<Request>): void {
    const { name, paths, request, summary, scope } = declared
    prpcMethod(app, {
      paths,
      request,
      // Nobody would read the key behind a HEAD.
      facts: { summary, scope, exposure: 'local', head: false },
      answer: (async (args: z.output<Request>, c: Context<PluginEnv>) => {
        try {
          const answer = prpcJson(await declared.answer(args, c))
          parts.requests.inc({ method: name, outcome: 'answered' })
          return answer
        } catch (thrown) {
          parts.requests.inc({ method: name, outcome: toApiError(thrown).code })
          throw thrown
        }
      }) as PrpcMethod<Request>['answer'],
    })
  }

  const key = ({ path, purpose, algorithm }: z.output<typeof KeyRequest>) =>
    agent().keys().keyring.v0(path, purpose, keyAlgorithm(algorithm))

  method({
    name: 'GetKey',
    paths: local('GetKey'),
    request: KeyRequest,
    summary: 'The key of a name, and whose it is',
    scope: 'kms:keys',
    answer: (args) => {
      const { secret, chain } = key(args)
      return { key: hex(secret), signature_chain: chain.map(hex) }
    },
  })

  method({
    name: 'DeriveK256Key',
    paths: tappd('DeriveK256Key'),
    request: KeyRequest,
    summary: 'The same by its old name',
    scope: 'kms:keys',
    answer: (args) => {
      const { secret, chain } = key(args)
      return { k256_key: hex(secret), k256_signature_chain: chain.map(hex) }
    },
  })

  method({
    name: 'v1.GetKey',
    paths: ['/v1/GetKey'],
    request: KeyRequestV1,
    summary: 'The key of a name and an algorithm, and whose it is',
    scope: 'kms:keys',
    answer: ({ domain, algorithm }) => {
      const { secret, publicKey, chain } = agent()
        .keys()
        .keyring.v1(domain, keyAlgorithmV1(algorithm))
      return { key: hex(secret), public_key: hex(publicKey), signature_chain: chain.map(hex) }
    },
  })

  const tlsKey = (args: z.output<typeof TlsKeyRequest>, c: Context<PluginEnv>) =>
    issued(agent().keys().issuer.issue(undefined, certificateOf(args), callOf(c)))

  method({
    name: 'GetTlsKey',
    paths: local('GetTlsKey'),
    request: TlsKeyRequest,
    summary: 'A fresh key with a certificate',
    scope: 'kms:certificates',
    answer: tlsKey,
  })

  method({
    name: 'v1.IssueCert',
    paths: ['/v1/IssueCert'],
    request: TlsKeyRequest,
    summary: 'A fresh key with a certificate',
    scope: 'kms:certificates',
    answer: tlsKey,
  })

  method({
    name: 'DeriveKey',
    paths: tappd('DeriveKey'),
    request: DeriveKeyRequest,
    summary: 'The P-256 key of a name with a certificate',
    scope: 'kms:keys',
    answer: ({ path, random_seed, ...args }, c) => {
      const scalar = random_seed ? undefined : agent().keys().keyring.p256Scalar(path)
      return issued(agent().keys().issuer.issue(scalar, certificateOf(args), callOf(c)))
    },
  })

  method({
    name: 'Sign',
    paths: local('Sign'),
    request: SignRequest,
    summary: 'Signs data with the signing key of the application',
    scope: 'kms:sign',
    answer: ({ algorithm: name, data }) => {
      const algorithm = signingAlgorithm(name)
      const { secret, publicKey, chain } = agent()
        .keys()
        .keyring.signing(algorithm === 'ed25519' ? 'ed25519' : 'secp256k1')
      const signature = hex(agent().signData(algorithm, secret, data))
      return {
        signature,
        signature_chain: [signature, ...chain.map(hex)],
        public_key: hex(publicKey),
      }
    },
  })

  method({
    name: 'Verify',
    paths: local('Verify'),
    request: VerifyRequest,
    summary: 'Whether a signature is of given data and a given key',
    scope: 'kms:sign',
    answer: ({ algorithm, data, signature, public_key }) => ({
      valid: agent().verifyData(signingAlgorithm(algorithm), public_key, data, signature),
    }),
  })
}

function certificateOf(
  args: Omit<z.output<typeof TlsKeyRequest>, 'with_app_info'> & { with_app_info?: boolean },
): CertificateRequest {
  return {
    subject: args.subject,
    altNames: args.alt_names,
    serverAuth: args.usage_server_auth,
    clientAuth: args.usage_client_auth,
    notBefore: args.not_before,
    notAfter: args.not_after,
    withEvidence: args.usage_ra_tls,
    withAppInfo: args.with_app_info ?? false,
  }
}

async function issued(work: Promise<IssuedKey>): Promise<object> {
  const { key, chain } = await work
  return { key, certificate_chain: chain }
}
