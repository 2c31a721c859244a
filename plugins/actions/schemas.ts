import { z } from 'zod'
import { lazySchema } from '../../src/lazy-schema.ts'

/** Longest time a request waits for a run, in seconds. */
export const MAX_WAIT_S = 3600

export const NameParam = lazySchema(() => z.object({ name: z.string() }))

export const IdParam = lazySchema(() => z.object({ id: z.string() }))

export const RunBody = lazySchema(() =>
  z.strictObject({
    params: z.record(z.string().max(64), z.string().max(4096)).default({}),
  }),
)

/** `1`, `true` or nothing: until the run is over. Another number: at most that many seconds. */
export const WaitQuery = lazySchema(() =>
  z.object({
    wait: z
      .string()
      .regex(/^(true|[0-9]{1,4}|)$/, 'must be 1, or a number of seconds')
      .default('0')
      .transform((text) =>
        ['', 'true', '1'].includes(text) ? MAX_WAIT_S : Math.min(Number(text), MAX_WAIT_S),
      ),
  }),
)

export const RunsQuery = lazySchema(() => z.object({ action: z.string().optional() }))

export const OutputQuery = lazySchema(() =>
  z.object({ stream: z.enum(['stdout', 'stderr']).optional() }),
)

/** A run without its output, as `Run.summary()` gives it. */
export const RunSummary = lazySchema(() =>
  z.object({
    id: z.string(),
    action: z.string(),
    state: z.enum(['queued', 'running', 'exited', 'killed', 'failed']),
    exit_code: z.int().nullable(),
    signal: z.string().nullable(),
    error: z.string().nullable(),
    timed_out: z.boolean(),
    cancelled: z.boolean(),
    params: z.array(z.string()),
    caller: z.string(),
    created_at: z.string(),
    started_at: z.string().nullable(),
    finished_at: z.string().nullable(),
    duration_ms: z.int(),
  }),
)

/** A run with the tails of its output, as `Run.document()` gives it. */
export const RunDocument = lazySchema(() =>
  RunSummary.extend({
    stdout: z.string(),
    stdout_truncated: z.boolean(),
    stderr: z.string(),
    stderr_truncated: z.boolean(),
  }),
)

export const RunList = lazySchema(() => z.object({ runs: z.array(RunSummary) }))

export const ActionList = lazySchema(() =>
  z.object({
    actions: z.array(
      z.object({
        name: z.string(),
        description: z.string(),
        params: z.array(
          z.object({
            name: z.string(),
            pattern: z.string(),
            max_length: z.int(),
            required: z.boolean(),
          }),
        ),
        running: z.int(),
        queued: z.int(),
        busy: z.boolean(),
      }),
    ),
  }),
)

/** system-api's success and error bodies. */
export const Message = lazySchema(() => z.object({ message: z.string() }))
export const CodedMessage = lazySchema(() => z.object({ code: z.int(), message: z.string() }))
