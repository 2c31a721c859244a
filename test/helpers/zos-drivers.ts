import assert from 'node:assert/strict'
import { once } from 'node:events'
import { request } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'
import { gunzipSync } from 'node:zlib'
import { createClient } from '@redis/client'
import { WebSocketServer } from 'ws'
import { ask, type Grid, type ShownWorkload } from './zos-grid.ts'
import { machine, workload } from './zos-machine.ts'

/** Types of workloads that a node says it runs. */
export const features = async (socket: string) =>
  (await ask(socket, 'zos.system.node_features_get')).json<string[]>()

/** Deploys, and sees that it was accepted. */
export async function deploy(
  socket: string,
  grid: Grid,
  contract: number,
  workloads: Parameters<Grid['signed']>[1],
): Promise<void> {
  const answer = await ask(socket, 'zos.deployment.deploy', grid.signed(contract, workloads))
  assert.equal(answer.status, 202, answer.body)
}

/** The last entry of a workload in the history of its deployment. */
export async function lastOf(socket: string, contract_id: number, name: string) {
  const answer = await ask(socket, 'zos.deployment.changes', { contract_id })
  return answer.json<ShownWorkload[]>().findLast((one) => one.name === name)
}

/** The part of its statistics that is looked at. */
export interface Statistics {
  readonly used: { readonly ipv4u: number; readonly hru: number; readonly sru: number }
  readonly system: { readonly sru: number }
}

/** A GET by the `Host` header. */
export function fetchFrom(host: string, port: number, name: string) {
  return new Promise<{ status: number; body: string }>((done, failed) => {
    const call = request({ host, port, path: '/', headers: { host: name }, agent: false })
    call.setTimeout(10_000, () => call.destroy(new Error(`${name} does not answer`)))
    call.once('error', failed)
    call.once('response', (response) => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', (data) => {
        body += data
      })
      response.once('error', failed)
      response.once('end', () => done({ status: response.statusCode ?? 0, body }))
    })
    call.end()
  })
}

/** Machines with a web page, which writes a line for each visit. */
export function webMachine(name: string, ip: string, more: object = {}) {
  const page = "printf 'HTTP/1.1 200 OK\\\\r\\\\nConnection: close\\\\r\\\\n\\\\r\\\\npage-of-it'"
  return workload(name, 'zmachine', {
    ...(machine.data as object),
    network: { public_ip: '', planetary: false, interfaces: [{ network: 'net', ip }] },
    mounts: [],
    env: {},
    entrypoint: `/bin/sh -c "trap 'exit 0' TERM; echo first-line; while :; do ${page} | nc -l -p 80 >/dev/null & wait; echo visited; done"`,
    ...more,
  })
}

/** Everything that was published to a channel, unpacked. */
export async function listenTo(t: TestContext, url: string, password: string, channel: string) {
  let text = ''
  const client = createClient({ url, password, RESP: 2, disableClientInfo: true })
  client.on('error', () => {})
  t.after(() => client.destroy())
  await client.connect()
  await client.subscribe(
    channel,
    (chunk: Buffer) => {
      text += gunzipSync(chunk).toString()
    },
    true,
  )
  return () => text
}

/** A server of WebSockets that keeps what it gets. */
export async function webSocketServer(t: TestContext, host: string) {
  const server = new WebSocketServer({ host, port: 0 })
  let text = ''
  let open = 0
  server.on('connection', (socket) => {
    open++
    socket.on('close', () => open--)
    socket.on('message', (data: Buffer) => {
      text += gunzipSync(data).toString()
    })
  })
  t.after(() => {
    for (const socket of server.clients) socket.terminate()
    server.close()
  })
  await once(server, 'listening')
  return { port: (server.address() as AddressInfo).port, text: () => text, open: () => open }
}
