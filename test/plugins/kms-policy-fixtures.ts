import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import type { BootInfo } from '../../plugins/kms/policy/boot-info.ts'
import type { PemPair } from '../../src/tls/self-signed.ts'

/** Somebody who measured everything there is. */
export const BOOT_INFO: BootInfo = {
  teeVariant: 'dstack-tdx',
  mrAggregated: 'a1'.repeat(32),
  osImageHash: 'b2'.repeat(32),
  mrSystem: 'c3'.repeat(32),
  appId: 'd4'.repeat(20),
  composeHash: 'e5'.repeat(32),
  instanceId: 'f6'.repeat(20),
  deviceId: '17'.repeat(32),
  keyProviderInfo: '7b7d',
  tcbStatus: 'UpToDate',
  advisoryIds: [],
}

/** A request as the stand-in saw it. */
export interface Seen {
  readonly method: string
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

export type Handler = (seen: Seen, response: ServerResponse) => void

/** A policy service or a node on this machine, closed with everything it still holds. */
export interface StandIn {
  readonly url: string
  readonly seen: Seen[]
  /** What it does from now on. */
  answer: Handler
}

export async function standIn(t: TestContext, answer: Handler, tls?: PemPair): Promise<StandIn> {
  const onRequest = (request: IncomingMessage, response: ServerResponse) => {
    let body = ''
    request.setEncoding('utf8')
    request.on('data', (part: string) => {
      body += part
    })
    request.on('end', () => {
      const { method = '', url = '', headers } = request
      const one = { method, path: url, headers, body }
      self.seen.push(one)
      self.answer(one, response)
    })
  }
  const server = tls ? createTlsServer(tls, onRequest) : createServer(onRequest)
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  t.after(() => {
    server.close()
    server.closeAllConnections()
  })
  const { port } = server.address() as AddressInfo
  const url = `${tls ? 'https' : 'http'}://127.0.0.1:${port}`
  const self: StandIn = { url, seen: [], answer }
  return self
}

/** Answers everything with this JSON. */
export const json =
  (value: unknown, status = 200): Handler =>
  (_seen, response) => {
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(JSON.stringify(value))
  }

/** A file in a folder of its own, gone after the test. */
export function temporaryFile(t: TestContext, name: string, content: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'cvmd-test-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}
