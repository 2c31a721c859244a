// Load on a Unix socket, which wrk does not speak: `unix-load.mjs SOCKET PATH CONNECTIONS BODY SECONDS`
// asks on each connection as soon as it was answered, and prints as JSON how long each answer took. A `#`
// in the path is another number each time. With a body, which is JSON, it asks by POST.
import { connect } from 'node:net'

const [socketPath, path, connections, body, seconds] = process.argv.slice(2)
const fields = body && `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n`
const end = performance.now() + Number(seconds) * 1000
const times = []
let asked = 0

const started = performance.now()
await Promise.all(Array.from({ length: Number(connections) }, client))
console.log(JSON.stringify({ times, ms: performance.now() - started }))

function client() {
  return new Promise((done, failed) => {
    const socket = connect(socketPath)
    let received = ''
    let sent = 0
    const ask = () => {
      sent = performance.now()
      const target = path.replace('#', String(1_000_000 + asked++))
      const method = body ? 'POST' : 'GET'
      socket.write(`${method} ${target} HTTP/1.1\r\nHost: localhost\r\n${fields}\r\n${body}`)
    }
    socket.setEncoding('latin1')
    socket.once('connect', ask)
    socket.once('error', failed)
    socket.on('data', (text) => {
      received += text
      const head = received.indexOf('\r\n\r\n')
      if (head < 0) return
      const [, length] = /content-length: (\d+)/i.exec(received) ?? []
      if (received.length < head + 4 + Number(length)) return
      if (!received.startsWith('HTTP/1.1 200')) {
        failed(new Error(`Cannot measure ${path}: ${received}`))
        return
      }
      received = ''
      const now = performance.now()
      times.push(now - sent)
      if (now < end) return ask()
      socket.destroy()
      done()
    })
  })
}
