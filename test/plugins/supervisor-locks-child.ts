// A process that holds locks: `supervisor-locks-child.ts ROOT APP-ID`. Prints JSON lines: what start
// did, then what became of the locks; ends when stdin does.
import { once } from 'node:events'
import { Locks } from '../../plugins/supervisor/locks/locks.ts'

const [root = '', appId = '0'] = process.argv.slice(2)
const print = (value: object) => process.stdout.write(`${JSON.stringify(value)}\n`)

const locks = new Locks({ root })
const removed = await locks.start()
print({ removed, degraded: locks.degraded ?? null })
const held = await locks.acquire([Number(appId)], { services: () => ['main'] })
print({ held: held.appIds })
process.stdin.resume()
await once(process.stdin, 'end')
await held.release()
print({ released: true })
