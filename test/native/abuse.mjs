// Calls every function of a test build of the addon with right and wrong arguments, for
// sanitizers: abuse.mjs FILE
const module = { exports: {} }
process.dlopen(module, process.argv[2])
const names = Object.keys(module.exports).filter((name) => name !== 'lock')
const TSM = '/sys/kernel/config/tsm/report'
const PATHS = ['/dev/nsm', '/dev/tdx_guest', TSM, `${TSM}/y`, `${TSM}/x/inblob`, '/proc/meminfo']
const detached = new Uint8Array(64)
structuredClone(detached.buffer, { transfer: [detached.buffer] })
const VALUES = [
  ...PATHS,
  ...['', '/', 'x'.repeat(512), '/'.repeat(513), `${TSM}/\u{1F600}`, '\ud800', `${TSM}/x\0y`],
  ...[0, 1, 47, 64, 4096, 2 ** 24, 2 ** 24 + 1, -1, 0.5, Number.NaN, 2 ** 40, 1n, true, null],
  ...[new Uint8Array(0), new Uint8Array(64), new Uint8Array(4096), new Uint8Array(4097)],
  ...[
    new Uint8Array(new SharedArrayBuffer(64)),
    detached,
    new Uint16Array(32),
    new Float64Array(8),
  ],
  ...[new DataView(new ArrayBuffer(64)), new ArrayBuffer(64), {}, [], Symbol('s'), () => {}],
  undefined,
]
let calls = 0
const call = async (name, args) => {
  calls++
  try {
    await module.exports[name](...args)
  } catch (error) {
    if (!(error instanceof Error)) throw error
  }
}
const hold = setInterval(() => {}, 1000)
for (const name of names) {
  await call(name, [])
  for (const first of VALUES) await call(name, [first])
  for (const first of PATHS) {
    await Promise.all(VALUES.map((second) => call(name, [first, second, 'one more'])))
  }
}
for (let i = 0; i < 40; i++) {
  const lock = await module.exports.lock(`${TSM}/x/inblob`)
  await module.exports.unlock(`${TSM}/x/inblob`, lock)
  calls += 2
}
clearInterval(hold)
console.log(`${calls} calls`)
