// Stands in for virtiofsd: `node stand-in.mjs FOLDER --socket-path PATH --shared-dir PATH`.
import { appendFileSync, statSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'

const [folder, ...argv] = process.argv.slice(2)
if (argv[0] === '--version') process.exit(0)
const [first, socket, second, shared] = argv
if (first !== '--socket-path' || second !== '--shared-dir' || !statSync(shared).isDirectory()) {
  console.error(`unexpected arguments: ${argv.join(' ')}`)
  process.exit(2)
}
appendFileSync(join(folder, 'shared'), `${process.pid} ${shared}\n`)
createServer(() => {}).listen(socket)
