// Clients of a KMS that runs on a simulated machine: `kms-client.ts FOLDER PORT CASE SECONDS` prints
// as JSON how long each request took. They come from many addresses, as a KMS looks at so many
// strangers from one, and no more.

import { sign } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { p256Key } from '../plugins/kms/certificates/p256-key.ts'
import { writeSigningRequest } from '../plugins/kms/certificates/write-signing-request.ts'
import { randomP256Scalar } from '../plugins/kms/derivation/curves.ts'
import { ROOT_FILES } from '../plugins/kms/server/root-file-names.ts'
import { readRootFiles } from '../plugins/kms/server/root-files.ts'
import { toHex } from '../src/attest/hex.ts'
import { raTlsReportData } from '../src/attest/ra-tls.ts'
import { keepIdentities } from '../src/simulate/keep.ts'
import { createTdxPki, TDX_SUBJECTS } from '../src/simulate/tdx-pki.ts'
import { RawClient } from '../test/helpers/raw-http.ts'
import {
  attestedBy,
  type Client,
  cloud,
  containerOf,
  mint,
} from '../test/plugins/kms-server-fixtures.ts'

/** One request, whose time is measured, with what has to be there before it. */
interface Asking {
  /** At a time. */
  readonly clients: number
  /** What is verified in a minute is limited, too. */
  readonly most?: number
  /** @param client Which of them, from 0. */
  prepare(n: number, client: number): Promise<() => Promise<void>>
}

const [folder = '', port = '', name = '', seconds = ''] = process.argv.slice(2)
const simulate = join(folder, 'state', 'simulate')
const pki = await keepIdentities(simulate, 'tdx-keys.pem', TDX_SUBJECTS, () =>
  createTdxPki(Date.now()),
)
const machine = cloud(Date.now(), pki as ReturnType<typeof createTdxPki>).tdx()
const keys = join(folder, 'state', 'kms', 'root-keys')
const material = readRootFiles(
  new Map(ROOT_FILES.map(({ name }) => [name, new Uint8Array(readFileSync(join(keys, name)))])),
)
const known = mint(material, attestedBy(machine))

const CASES: Readonly<Record<string, Asking>> = {
  'KMS: /health, a new connection': {
    clients: 1,
    prepare: async (n) => () => once(n, undefined, 'GET', '/health'),
  },
  'KMS: GetAppKey, a new connection': {
    clients: 1,
    prepare: async (n) => () => once(n, known, 'POST', '/prpc/GetAppKey'),
  },
  'KMS: GetAppKey, a new client': {
    clients: 1,
    most: 60,
    prepare: async (n) => {
      const client = mint(material, attestedBy(machine))
      return () => once(n, client, 'POST', '/prpc/GetAppKey')
    },
  },
  'KMS: /health, 16 connections': warm(16, 'GET', '/health'),
  'KMS: GetAppKey, 16 connections': warm(16, 'POST', '/prpc/GetAppKey'),
  'KMS: GetAppKey, one connection': warm(1, 'POST', '/prpc/GetAppKey'),
  'KMS: SignCert': {
    clients: 1,
    most: 60,
    prepare: async (n) => {
      const connection = await connect(n, undefined)
      const body = signingRequest()
      return () =>
        ask(connection, 'POST', '/prpc/SignCert', body).finally(() => connection.destroy())
    },
  },
}

const chosen = CASES[name]
if (!chosen) throw new Error(`there is no case "${name}"`)
console.log(JSON.stringify(await measured(chosen)))
process.exit(0)

async function measured({ clients, most = Number.POSITIVE_INFINITY, prepare }: Asking) {
  const times: number[] = []
  let begun = 0
  const end = performance.now() + Number(seconds) * 1000
  const started = performance.now()
  const client = async (_: unknown, at: number) => {
    while (performance.now() < end && begun < most) {
      const work = await prepare(begun++, at)
      const from = performance.now()
      await work()
      times.push(performance.now() - from)
    }
  }
  await Promise.all(Array.from({ length: clients }, client))
  return { times, ms: performance.now() - started }
}

/** Requests on connections that stay open. */
function warm(clients: number, method: string, path: string): Asking {
  const open = new Map<number, Promise<RawClient>>()
  return {
    clients,
    prepare: async (_, at) => {
      const connection = open.get(at) ?? connect(at, known)
      open.set(at, connection)
      const client = await connection
      return () => ask(client, method, path)
    },
  }
}

async function once(n: number, client: Client | undefined, method: string, path: string) {
  const connection = await connect(n, client)
  await ask(connection, method, path)
  connection.destroy()
}

function connect(n: number, client: Client | undefined): Promise<RawClient> {
  const own = client && { cert: client.cert, key: client.key.pem }
  const tls = { rejectUnauthorized: false, ...own }
  return RawClient.connect({ port: Number(port), from: `127.0.1.${1 + (n % 200)}`, tls })
}

async function ask(client: RawClient, method: string, path: string, body = '{}'): Promise<void> {
  const head = `${method} ${path} HTTP/1.1\r\nHost: kms.example\r\n`
  client.send(
    method === 'GET' ? `${head}\r\n` : `${head}Content-Length: ${body.length}\r\n\r\n${body}`,
  )
  const answer = await client.answer(10_000)
  if (answer?.status !== 200) throw new Error(`Cannot measure ${path}: ${answer?.body}`)
}

function signingRequest(): string {
  const key = p256Key(randomP256Scalar())
  const csr = writeSigningRequest({
    spki: key.spki,
    leaf: { subject: 'shop', altNames: [], serverAuth: true, clientAuth: false },
    withEvidence: true,
    withAppInfo: false,
    attestation: containerOf(machine.evidence(raTlsReportData(key.spki)), key.spki),
  })
  const signature = toHex(sign('sha256', csr, key.privateKey))
  return JSON.stringify({ api_version: 2, csr: toHex(csr), signature, vm_config: '' })
}
