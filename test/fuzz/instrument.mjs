// Bundles a parser with counters in its branches, so that a fuzzer can see what an input reached.
import { createRequire } from 'node:module'
import { build } from 'esbuild'
import { createInstrumenter } from 'istanbul-lib-instrument'

const COUNTERS = '__fuzzCounters'

/**
 * @param entry TypeScript file below the project's root.
 * @returns Its exports; `take()`: the features the code reached since the last call; `plain`: the
 *   exports without counters, as fast as they are.
 */
export async function instrument(entry) {
  const bundle = await bundled(entry)
  const instrumenter = createInstrumenter({ compact: true, coverageVariable: COUNTERS })
  const code = instrumenter.instrumentSync(bundle, entry)
  const exports = load(code)
  const { s, f, b } = globalThis[COUNTERS][entry]
  const places = [...placesOf(s), ...placesOf(f), ...Object.values(b).flatMap(placesOf)]
  const plain = load(bundle)
  return { exports, plain, take: () => take(places), places: places.length }
}

/** What a TypeScript file exports. */
export const imported = async (entry) => load(await bundled(entry))

async function bundled(entry) {
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    write: false,
    platform: 'node',
    format: 'cjs',
    logLevel: 'warning',
  })
  return outputFiles[0].text
}

function load(code) {
  const module = { exports: {} }
  const require = createRequire(import.meta.url)
  new Function('module', 'exports', 'require', code)(module, module.exports, require)
  return module.exports
}

/** Every counter of one of istanbul's tables, as the object that holds it and its key. */
function placesOf(table) {
  return Object.keys(table).map((key) => ({ table, key }))
}

/** A feature is a place and how often it was passed, roughly, so that loops count as progress. */
function take(places) {
  const features = []
  for (let at = 0; at < places.length; at++) {
    const { table, key } = places[at]
    const count = table[key]
    if (count === 0) continue
    table[key] = 0
    features.push(at * 8 + Math.min(7, 31 - Math.clz32(count)))
  }
  return features
}
