// Stands in for cloud-hypervisor: `node stand-in.mjs FOLDER --api-socket PATH`. Checks that every
// request is one the API has, in an order it allows and with a body of its schema
// (`vmm/src/api/openapi/cloud-hypervisor.yaml`, 00f6822), writes each down in FOLDER/requests, and
// behaves as FOLDER/control.json says: { "<endpoint>": { "status", "body", "do" }, "serial", "version" }.
import { appendFileSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'

const [folder, ...argv] = process.argv.slice(2)
const control = () => {
  const path = join(folder, 'control.json')
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : {}
}
const note = (text) => appendFileSync(join(folder, 'requests'), `${text}\n`)

if (argv[0] === '--version') {
  console.log(`cloud-hypervisor v${control().version ?? '51.1'}`)
  process.exit(0)
}
appendFileSync(join(folder, 'started'), `${process.pid} ${argv.join(' ')}\n`)
const { start } = control()
if (start === 'die') {
  console.error('Error: something is wrong with this host')
  process.exit(1)
}
if (argv.length !== 2 || argv[0] !== '--api-socket') {
  console.error(`unexpected arguments: ${argv.join(' ')}`)
  process.exit(2)
}

const string = (value) => typeof value === 'string' && value !== ''
const bool = (value) => typeof value === 'boolean'
const integer = (least) => (value) => Number.isSafeInteger(value) && value >= least
const oneOf =
  (...words) =>
  (value) =>
    words.includes(value)
const file = (value) => string(value) && existsSync(value)
const list = (check) => (value, path) => {
  if (!Array.isArray(value)) return false
  value.forEach((item, index) => {
    must(check, item, `${path}[${index}]`)
  })
  return true
}
/** Members with a `?` may be missing; any other member is one the API does not have. */
const object = (members) => (value, path) => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  const known = Object.keys(members).map((name) => name.replace('?', ''))
  for (const name of Object.keys(value)) {
    if (!known.includes(name)) throw new Error(`${path} has "${name}"`)
  }
  for (const [name, check] of Object.entries(members)) {
    const key = name.replace('?', '')
    if (!(key in value)) {
      if (!name.endsWith('?')) throw new Error(`${path} lacks "${key}"`)
    } else must(check, value[key], `${path}.${key}`)
  }
  return true
}
function must(check, value, path) {
  if (!check(value, path)) throw new Error(`${path} is ${JSON.stringify(value)}`)
}

const VM_CONFIG = object({
  cpus: object({ boot_vcpus: integer(1), max_vcpus: integer(1) }),
  memory: object({ size: integer(1), 'shared?': bool }),
  payload: object({ 'firmware?': file, 'kernel?': file, 'initramfs?': file, 'cmdline?': string }),
  'disks?': list(object({ path: file, 'readonly?': bool, 'image_type?': oneOf('Raw', 'Qcow2') })),
  'net?': list(
    object({
      tap: (value) => string(value) && value.length <= 15,
      mac: (value) => /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(value),
    }),
  ),
  'fs?': list(
    object({ tag: string, socket: file, num_queues: integer(1), queue_size: integer(1) }),
  ),
  'devices?': list(object({ path: string })),
  'rng?': object({ src: string }),
  'serial?': object({
    mode: oneOf('Off', 'Pty', 'Tty', 'File', 'Socket', 'Null'),
    'file?': string,
  }),
  'console?': object({ mode: oneOf('Off', 'Null') }),
})

let config
let state
const NOT_CREATED = [404, '["VM is not created"]']
const NOT_BOOTED = [405, '["VM is not running"]']
const ENDPOINTS = {
  'GET vmm.ping': () => [
    200,
    JSON.stringify({ version: `v${control().version ?? '51.1'}`, pid: process.pid }),
  ],
  'GET vm.info': () => (config ? [200, JSON.stringify({ config, state })] : NOT_CREATED),
  'PUT vm.create': (body) => {
    if (config) return [500, '["VM is already created"]']
    const asked = JSON.parse(body)
    must(VM_CONFIG, asked, 'config')
    if (asked.fs && asked.memory.shared !== true) throw new Error('fs needs shared memory')
    if (!asked.payload.firmware === !asked.payload.kernel) throw new Error('firmware or kernel')
    for (const { path } of asked.disks ?? []) {
      if (statSync(path).size % 512 !== 0) throw new Error(`${path} is no disk`)
    }
    config = asked
    state = 'Created'
    return [204]
  },
  'PUT vm.boot': () => {
    if (!config) return NOT_CREATED
    if (state !== 'Created') return [500, '["VM is already booted"]']
    state = 'Running'
    writeFileSync(config.serial.file, control().serial ?? 'booted\n')
    return [204]
  },
  'PUT vm.pause': () => move('Running', 'Paused'),
  'PUT vm.resume': () => move('Paused', 'Running'),
  'PUT vm.shutdown': () => {
    if (!config) return NOT_CREATED
    if (state === 'Created' || state === 'Shutdown') return NOT_BOOTED
    state = 'Shutdown'
    return [204]
  },
  'PUT vm.power-button': () => {
    if (!config) return NOT_CREATED
    if (state !== 'Running') return NOT_BOOTED
    if (control().acpi !== false) setTimeout(() => process.exit(0), 50)
    return [204]
  },
  'PUT vm.delete': () => {
    config = undefined
    return [204]
  },
  'PUT vmm.shutdown': () => {
    setTimeout(() => process.exit(0), 20)
    return [204]
  },
}
function move(from, to) {
  if (!config) return NOT_CREATED
  if (state !== from) return NOT_BOOTED
  state = to
  return [204]
}

const server = createServer((request, response) => {
  let body = ''
  request.setEncoding('utf8')
  request.on('data', (data) => {
    body += data
  })
  request.on('end', () => {
    const name = request.url.replace('/api/v1/', '')
    note(`${request.method} ${name} ${body}`)
    const wish = control()[name] ?? {}
    if (wish.do === 'hang') return
    if (wish.do === 'die') process.exit(9)
    if (wish.do === 'cut') {
      response.writeHead(200, { 'content-length': 1000 })
      response.write('{"state":')
      setTimeout(() => response.destroy(), 20)
      return
    }
    let answer
    try {
      const serve = ENDPOINTS[`${request.method} ${name}`]
      const odd = body !== '' && name !== 'vm.create'
      answer = serve && !odd ? serve(body) : [400, '["no such request"]']
    } catch (error) {
      note(`WRONG ${name}: ${error.message}`)
      answer = [400, JSON.stringify([error.message])]
    }
    const [status, text = ''] = [wish.status ?? answer[0], wish.body ?? answer[1]]
    response.writeHead(status, text === '' ? {} : { 'content-type': 'application/json' })
    response.end(text)
  })
})
// As the real one, which does not take over a socket that is there.
server.on('error', (error) => {
  console.error(error.message)
  process.exit(1)
})
process.on('SIGTERM', () => {
  if (control().deaf !== true) process.exit(0)
})
if (start !== 'mute') server.listen(argv[1])
else setInterval(() => {}, 1000)
