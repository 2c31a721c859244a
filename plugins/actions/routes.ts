import { type Context, Hono } from 'hono'
import type { z } from 'zod'
import { grants } from '../../src/auth/scopes.ts'
import { lastSegment, systemApiJson } from '../../src/compat/system-api.ts'
import { ApiError } from '../../src/errors.ts'
import type { PluginEnv } from '../../src/plugin.ts'
import { route } from '../../src/route.ts'
import { looseJson, validate } from '../../src/validate.ts'
import type { Command } from './command.ts'
import { eventFormat, followOutput, plainFormat } from './output.ts'
import type { Run } from './run.ts'
import type { Runs } from './runs.ts'
import {
  ActionList,
  CodedMessage,
  IdParam,
  Message,
  NameParam,
  OutputQuery,
  RunBody,
  RunDocument,
  RunList,
  RunSummary,
  RunsQuery,
  WaitQuery,
} from './schemas.ts'

/** Outputs followed at a time, over all runs. */
const MAX_FOLLOWERS = 64

/** The routes of the plugin over its commands and runs. */
export function actionRoutes(commands: ReadonlyMap<string, Command>, runs: Runs) {
  let followers = 0

  const compatible = {
    scope: 'actions:run:{name}',
    long: true,
    answers: {
      200: { description: 'Exit status 0', schema: Message },
      400: { description: 'No such action', schema: CodedMessage },
      500: { description: 'Any other end', schema: CodedMessage },
    },
  }
  const runToEnd = async (c: Context<PluginEnv>) => {
    const command = commands.get(lastSegment(c))
    if (!command) {
      throw new ApiError(400, 'ACTION_NOT_CONFIGURED', 'Specified action not configured')
    }
    assertMayRun(c, command)
    const run = runs.start(command, {}, c.env.caller.name)
    await run.done
    if (run.error === undefined) {
      return systemApiJson(200, { message: 'Action executed successfully' })
    }
    throw new ApiError(
      500,
      'ACTION_FAILED',
      `Failed to execute action: ${command.name} - error: ${run.error}`,
    )
  }

  const visibleRun = (c: Context<PluginEnv>, id: string): Run => {
    const run = runs.get(id)
    assertMayRun(c, run.command)
    return run
  }

  return new Hono<PluginEnv>()
    .get(
      '/api/v1/actions/:name',
      route({
        ...compatible,
        summary: 'Run an action and wait for its end',
        sideEffect: true,
        head: false,
      }),
      validate('param', NameParam),
      runToEnd,
    )
    .post(
      '/api/v1/actions/:name',
      route({ ...compatible, summary: 'The same, for clients that do not change things with GET' }),
      validate('param', NameParam),
      runToEnd,
    )
    .get(
      '/cvmd/actions',
      route({
        summary: 'List the actions',
        answers: { 200: { description: 'Names and parameters', schema: ActionList } },
      }),
      (c) => c.json({ actions: [...commands.values()].map((command) => describe(command, runs)) }),
    )
    .post(
      '/cvmd/actions/:name/runs',
      route({
        summary: 'Start an action',
        scope: 'actions:run:{name}',
        long: true,
        answers: {
          200: { description: 'It ended while the request waited', schema: RunDocument },
          202: { description: 'It was started or queued', schema: RunSummary },
          409: { description: 'Too many runs of it' },
          422: { description: 'Wrong parameters' },
        },
      }),
      validate('param', NameParam),
      validate('query', WaitQuery),
      looseJson(RunBody),
      async (c) => {
        const command = find(commands, c.req.path.split('/')[3] ?? '')
        assertMayRun(c, command)
        const run = runs.start(command, c.req.valid('json').params, c.env.caller.name)
        await waitFor(run, c.req.valid('query').wait)
        const location = { location: `/cvmd/actions/runs/${run.id}` }
        return run.finished
          ? c.json<z.output<typeof RunDocument>, 200>(run.document(), 200, location)
          : c.json<z.output<typeof RunSummary>, 202>(run.summary(), 202, location)
      },
    )
    .get(
      '/cvmd/actions/runs',
      route({
        summary: 'List recent runs, newest first',
        answers: {
          200: { description: 'Runs of the actions the caller may run', schema: RunList },
        },
      }),
      validate('query', RunsQuery),
      (c) => {
        const { action } = c.req.valid('query')
        const visible = runs
          .list()
          .filter(({ command }) => mayRun(c, command))
          .filter(({ command }) => action === undefined || command.name === action)
        return c.json({ runs: visible.map((run) => run.summary()) })
      },
    )
    .get(
      '/cvmd/actions/runs/:id',
      route({
        summary: 'Show a run and the end of its output',
        answers: { 200: { description: 'The run', schema: RunDocument } },
      }),
      validate('param', IdParam),
      (c) => c.json(visibleRun(c, c.req.valid('param').id).document()),
    )
    .get(
      '/cvmd/actions/runs/:id/output',
      route({
        summary: 'Follow the output of a run until it is over',
        long: true,
        // Nobody would ever read, and so end, the stream behind a HEAD.
        head: false,
        answers: {
          200: { description: 'Raw, or server-sent events when asked for', type: 'text/plain' },
        },
      }),
      validate('param', IdParam),
      validate('query', OutputQuery),
      (c) => {
        const run = visibleRun(c, c.req.valid('param').id)
        if (followers >= MAX_FOLLOWERS) {
          throw new ApiError(
            429,
            'TOO_MANY_FOLLOWERS',
            `Cannot follow run "${run.id}": ${followers} outputs are being followed`,
            { headers: { 'retry-after': '5' } },
          )
        }
        const { stream } = c.req.valid('query')
        const events = c.req.header('accept')?.includes('text/event-stream') ?? false
        const format = events ? eventFormat() : plainFormat()
        followers++
        const body = followOutput(run, stream ? [stream] : ['stdout', 'stderr'], format, () => {
          followers--
        })
        return c.body(body, 200, {
          'content-type': format.type,
          'cache-control': 'no-store',
          'x-content-type-options': 'nosniff',
        })
      },
    )
    .delete(
      '/cvmd/actions/runs/:id',
      route({
        summary: 'End a run: TERM, then KILL',
        scope: 'actions:read',
        answers: { 202: { description: 'It is being ended', schema: RunSummary } },
      }),
      validate('param', IdParam),
      (c) => {
        const run = visibleRun(c, c.req.valid('param').id)
        runs.cancel(run)
        return c.json(run.summary(), run.finished ? 200 : 202)
      },
    )
}

/** Whether the caller holds the scope of a command; its runs are as private as the command. */
function mayRun(c: Context<PluginEnv>, command: Command): boolean {
  return grants(c.env.caller.scopes, `actions:run:${command.name}`)
}

function assertMayRun(c: Context<PluginEnv>, command: Command): void {
  if (mayRun(c, command)) return
  throw new ApiError(
    403,
    'SCOPE_MISSING',
    `Caller "${c.env.caller.name}" lacks the scope "actions:run:${command.name}"`,
  )
}

function find(commands: ReadonlyMap<string, Command>, name: string): Command {
  const command = commands.get(name)
  if (command) return command
  throw new ApiError(
    404,
    'ACTION_NOT_FOUND',
    `Cannot run action "${name.slice(0, 64)}": GET /cvmd/actions lists what there is`,
  )
}

function describe(command: Command, runs: Runs): z.output<typeof ActionList>['actions'][number] {
  const { running, queued } = runs.load(command)
  const { description, params, queue } = command.config
  return {
    name: command.name,
    description,
    params: params.map(({ name, pattern, max_length, required, default: fallback }) => ({
      name,
      pattern,
      max_length,
      required: required && fallback === undefined,
    })),
    running,
    queued,
    busy: running >= command.concurrency && queued >= queue,
  }
}

/** Resolves when the run is over, or after so many seconds. */
async function waitFor(run: Run, seconds: number): Promise<void> {
  if (seconds === 0) return
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, seconds * 1000)
  })
  await Promise.race([run.done, late])
  clearTimeout(timer)
}
