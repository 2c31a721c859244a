// Coverage-guided fuzzing of every parser that reads what others sent:
//   node test/fuzz/fuzz.mjs [--seconds N] [--seed N] [target …]
// An input that reaches something new is kept and changed further. A finding is an error that is
// not typed, an input that takes over 50 ms, or a rule of the target that does not hold; it is
// written to test/fuzz/findings/ and belongs into a test with its repair.
import { createHash } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { imported, instrument } from './instrument.mjs'
import { mutate, randomSource } from './mutate.mjs'
import { targets } from './targets.mjs'

const MAX_MS = 50

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string', default: '5' },
    seed: { type: 'string', default: '1' },
  },
})
const chosen = targets.filter(({ name }) => positionals.length === 0 || positionals.includes(name))
if (chosen.length === 0) {
  console.error(`no such target; there are ${targets.map(({ name }) => name).join(', ')}`)
  process.exit(2)
}
let findings = 0
for (const target of chosen)
  findings += await fuzz(target, Number(values.seconds), Number(values.seed))
process.exit(findings === 0 ? 0 : 1)

/** Fuzzes one target for so many seconds; gives the number of findings. */
async function fuzz(target, seconds, seed) {
  const { name, entry, seeds, check, largest, timed = check, maxBytes = 16_384 } = target
  const { exports, plain, take, places } = await instrument(entry)
  const random = randomSource(seed)
  const corpus = []
  const reached = new Set()
  const found = new Map()
  const note = (finding, input) => {
    if (finding === undefined || found.has(finding)) return
    found.set(finding, input)
    report(name, finding, input)
  }
  const run = (input) => {
    note(
      judge(() => check(exports, input)),
      input,
    )
    const fresh = take().filter((feature) => !reached.has(feature))
    for (const feature of fresh) reached.add(feature)
    return fresh.length > 0
  }
  for (const input of largest ? (await imported('test/fuzz/largest.ts'))[largest]() : []) {
    // As often as it takes for the compiler to have seen it.
    for (let i = 0; i < 3; i++) attempt(() => timed(plain, input))
    note(
      judge(() => timed(plain, input)),
      input,
    )
  }
  for (const input of [Buffer.alloc(0), ...(await seeds())]) {
    run(input)
    corpus.push(input)
  }
  const own = corpus.length
  const end = Date.now() + seconds * 1000
  let runs = 0
  for (; Date.now() < end; runs++) {
    // Every other input comes from the newest tenth, where the unexplored parts are.
    const newest = Math.max(1, Math.ceil(corpus.length / 10))
    const at = random(2) === 0 ? corpus.length - 1 - random(newest) : random(corpus.length)
    const input = mutate(corpus[at], corpus[random(corpus.length)], random, maxBytes)
    if (run(input)) corpus.push(input)
  }
  const covered = new Set([...reached].map((feature) => feature >> 3)).size
  console.log(
    `${name}: ${runs} inputs, ${corpus.length - own} kept, ${covered} of ${places} places reached, ` +
      `${found.size} findings`,
  )
  return found.size
}

/** What is wrong with how an input was taken, in a few words that name one fault; else undefined. */
function judge(work) {
  const started = performance.now()
  try {
    work()
  } catch (error) {
    if (error?.name !== 'EvidenceError')
      return `threw ${error?.stack?.split('\n', 2).join(' ') ?? error}`
    if (!/^[A-Z][A-Z0-9_]+$/.test(error.code)) return `has the code ${error.code}`
  }
  if (performance.now() - started <= MAX_MS) return undefined
  // Once may be the garbage collector, and wall time another program.
  const used = process.cpuUsage()
  attempt(work)
  const { user, system } = process.cpuUsage(used)
  return user + system > MAX_MS * 1000 ? `takes over ${MAX_MS} ms` : undefined
}

function attempt(work) {
  try {
    work()
  } catch {}
}

function report(name, finding, input) {
  const id = createHash('sha256').update(input).digest('hex').slice(0, 12)
  const path = `test/fuzz/findings/${name}-${id}`
  mkdirSync('test/fuzz/findings', { recursive: true })
  writeFileSync(path, input)
  console.error(`${name}: ${finding}\n  ${path}`)
}
