import { Hono } from 'hono'
import { z } from 'zod'
import { ApiError } from '../../src/errors.ts'
import type { PluginEnv } from '../../src/plugin.ts'
import { route } from '../../src/route.ts'
import { validate } from '../../src/validate.ts'

/** Longest CPU profile, in seconds. */
const MAX_SECONDS = 120

const Profile = z.object({ seconds: z.coerce.number().min(0).max(MAX_SECONDS).default(30) })

const INDEX = `/debug/pprof/
heap      memory figures (JSON)
profile   CPU profile of ?seconds=N (JSON, .cpuprofile)
`

const facts = (summary: string) => route({ summary, scope: 'debug:read', head: false })

/**
 * What this runtime can tell about itself, under the paths where system-api serves Go's profiler
 * (spec system-api §5.7). The formats are the runtime's own; what only Go has answers 501.
 */
export function debugRoutes() {
  let profiling = false
  const moved = () => new Response(null, { status: 301, headers: { location: '/debug/pprof/' } })

  return new Hono<PluginEnv>()
    .get('/debug', facts('To the list of figures'), moved)
    .get('/debug/', facts('To the list of figures'), moved)
    .get('/debug/pprof', facts('To the list of figures'), moved)
    .get('/debug/pprof/', facts('The list of figures'), (c) => c.text(INDEX))
    .get('/debug/vars', facts('Memory and processor time'), (c) =>
      c.json({ memory: process.memoryUsage(), cpu_us: process.cpuUsage(), uptime_s: uptime() }),
    )
    .get('/debug/pprof/heap', facts('Memory by kind'), async (c) => {
      // Loaded here and not above: few daemons are profiled, and all of them start.
      const v8 = await import('node:v8')
      return c.json({
        process: process.memoryUsage(),
        heap: figures(v8.getHeapStatistics),
        spaces: figures(v8.getHeapSpaceStatistics),
      })
    })
    .get(
      '/debug/pprof/profile',
      route({ summary: 'A CPU profile', scope: 'debug:read', head: false, long: true }),
      validate('query', Profile),
      async (c) => {
        if (profiling) {
          throw new ApiError(409, 'PROFILE_RUNNING', 'Cannot profile: a profile is being taken')
        }
        profiling = true
        try {
          const profile = await cpuProfile(c.req.valid('query').seconds * 1000, c.req.raw.signal)
          return c.json(profile as object)
        } finally {
          profiling = false
        }
      },
    )
    .get('/debug/pprof/:name', facts('A figure only Go has'), (c) => {
      throw unavailable(`"${c.req.param('name')}" is a figure of the Go runtime`)
    })
}

function uptime(): number {
  return Math.round(process.uptime())
}

/** Some runtimes lack some of the figures. */
function figures<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}

/** Takes a profile; a caller that goes away ends it early. */
async function cpuProfile(ms: number, signal: AbortSignal): Promise<unknown> {
  const { Session } = await import('node:inspector')
  const session = new Session()
  const post = (method: string) =>
    new Promise<unknown>((resolve, reject) => {
      session.post(method, (error, result) => (error ? reject(error) : resolve(result)))
    })
  try {
    session.connect()
    await post('Profiler.enable')
    await post('Profiler.start')
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms)
      signal.addEventListener('abort', () => resolve(clearTimeout(timer)), { once: true })
    })
    return ((await post('Profiler.stop')) as { profile: unknown }).profile
  } catch (cause) {
    throw unavailable(`this runtime gives no CPU profile (${(cause as Error).message})`)
  } finally {
    session.disconnect()
  }
}

function unavailable(why: string): ApiError {
  return new ApiError(501, 'NOT_IMPLEMENTED', `Cannot serve this figure: ${why}`)
}
