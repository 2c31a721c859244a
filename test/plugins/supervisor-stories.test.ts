/** Whatever happens in whatever order: at rest there is what was asked for last, and no more. */
import { test } from 'node:test'
import fc from 'fast-check'
import { fastClock } from '../helpers/fast-clock.ts'
import {
  APPS,
  type AppDraft,
  type Ask,
  type Failure,
  type Happening,
  SERVICES,
  type ServiceDraft,
  STRATEGIES,
  Story,
} from './supervisor-story.ts'

const RUNS = Number(process.env.CVMD_TEST_RUNS ?? 60)
const SPEED = 500

const service: fc.Arbitrary<ServiceDraft> = fc.record({
  image: fc.constantFrom(1, 1, 2, 3),
  environment: fc.constantFrom(1, 1, 2),
  label: fc.constantFrom(1, 1, 2),
  strategy: fc.constantFrom(...STRATEGIES),
  volumes: fc.subarray(['data', 'logs']),
  networks: fc.subarray(['back', 'front'], { minLength: 1 }),
  after: fc.constantFrom('nothing' as const, 'depends' as const, 'network' as const),
  running: fc.constantFrom(true, true, true, false),
  restart: fc.constantFrom(
    'always' as const,
    'always' as const,
    'no' as const,
    'on-failure' as const,
  ),
})

const app: fc.Arbitrary<AppDraft> = fc.record({
  commit: fc.constantFrom(1, 2, 3),
  network: fc.constantFrom(1, 1, 2),
  volume: fc.constantFrom(1, 1, 2),
  services: fc.array(fc.option(service, { nil: undefined, freq: 2 }), {
    minLength: 1,
    maxLength: SERVICES.length,
  }),
})

const where = { app: fc.constantFrom(0, 0, 1, 2), service: fc.nat({ max: 3 }) }
const happening: fc.Arbitrary<Happening> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('target' as const),
      apps: fc.array(fc.option(app, { nil: undefined, freq: 4 }), {
        minLength: 1,
        maxLength: APPS.length,
      }),
      force: fc.boolean(),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('ask' as const),
      what: fc.constantFrom<Ask>(
        'start',
        'stop',
        'stop',
        'restart',
        'restart-app',
        'purge',
        'update',
        'cancel',
      ),
      ...where,
      force: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constantFrom('lock' as const, 'unlock' as const), ...where }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('ends' as const),
      ...where,
      exitCode: fc.constantFrom(0, 1),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('fail' as const),
      kinds: fc.array(fc.constantFrom<Failure>('refused', 'lost', 'late', 'conflict'), {
        minLength: 1,
        maxLength: 3,
      }),
      reads: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('stranger' as const),
      ...where,
      at: fc.nat({ max: 3 }),
      commit: fc.constantFrom(1, 2, 3),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom(
        'cut' as const,
        'rest' as const,
        'restart' as const,
        'kill' as const,
        'lose-images' as const,
      ),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('wait' as const), turns: fc.nat({ max: 60 }) }),
  },
)

test('random sequences of targets, requests, failures and starts', async () => {
  const clock = fastClock(SPEED)
  try {
    await fc.assert(
      fc.asyncProperty(
        fc.array(happening, { maxLength: 14 }),
        fc.integer({ min: 1 }),
        fc.record({ fetched: fc.boolean(), trial: fc.boolean() }),
        async (happenings, seed, options) => {
          const story = new Story(clock, seed, options)
          try {
            await story.begin()
            for (const one of happenings) await story.play(one)
            await story.finish()
          } finally {
            await story.end()
          }
        },
      ),
      {
        numRuns: RUNS,
        includeErrorInReport: true,
        // Who plays thousands wants to know of a fault, and makes it smaller by its seed and path.
        endOnFailure: RUNS > 100,
      },
    )
  } finally {
    clock.end()
  }
})
