import { request as httpsRequest } from 'node:https'
import { connect } from 'node:tls'

/** An answer, read whole. */
export interface Answer {
  readonly status: number
  readonly body: string
  /** Of the body, where it is a JSON object. */
  readonly json: Readonly<Record<string, string>>
}

/** How long anything may take. */
export const WAIT_MS = 20_000

/** Reads one. */
export function answerOf(status: number, body: string): Answer {
  const json = body.startsWith('{') ? JSON.parse(body) : {}
  return { status, body, json }
}

/** What a server answers to whoever believes everybody and shows no certificate. */
export function askUnverified(url: string, path: string, args?: object): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const options = { method: 'POST', agent: false, rejectUnauthorized: false } as const
    const asked = httpsRequest(`${url}${path}`, options, (incoming) => {
      let body = ''
      incoming.setEncoding('utf8')
      incoming.on('data', (text) => {
        body += text
      })
      incoming.on('end', () => resolve(answerOf(incoming.statusCode ?? 0, body)))
      incoming.on('error', reject)
    })
    asked.setTimeout(WAIT_MS, () => asked.destroy(new Error(`${url}${path} was not answered`)))
    asked.on('error', reject)
    asked.end(JSON.stringify(args ?? {}))
  })
}

/** The certificate that a server shows, DER. */
export function shownCertificate(port: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, rejectUnauthorized: false, timeout: WAIT_MS }
    const socket = connect(options, () => {
      const { raw } = socket.getPeerCertificate()
      socket.destroy()
      resolve(new Uint8Array(raw))
    })
    socket.on('error', reject)
    socket.on('timeout', () => socket.destroy(new Error(`port ${port} shows nothing`)))
  })
}
