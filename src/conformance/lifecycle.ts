import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { messageOf } from '../errors.ts'
import { routesOf } from '../registry.ts'
import { runtime } from '../runtime.ts'
import { type Check, fail, failAny, type Subject } from './check.ts'
import { watchEffects } from './effects.ts'

/** `setup` builds, `start` acts, `stop` always works. */
export const lifecycleChecks: readonly Check[] = [
  {
    check: 'setup is pure',
    run(subject) {
      const { effects } = watchEffects(() => subject.setUp(subject.scratch))
      failAny(effects)
      return runtime === 'node' ? undefined : 'reading files in setup is only seen on Node'
    },
  },
  {
    check: 'a second setup gives an independent instance',
    run(subject) {
      const [one, two] = [subject.setUp(), subject.setUp()]
      if (one.instance === two.instance) fail('it is the same instance')
      if (one.instance.routes === two.instance.routes) fail('both have the same routes object')
      if (routesOf(one).length !== routesOf(two).length) fail('the second has other routes')
      return undefined
    },
  },
  {
    check: 'stop is safe without start',
    async run(subject) {
      const { instance } = subject.setUp()
      await instance.stop?.()
      return instance.stop ? undefined : 'there is no stop'
    },
  },
  startable('it starts, and stops twice', async (subject) => {
    const { instance, abort } = start(subject)
    await instance.start?.()
    abort.abort()
    await instance.stop?.()
    await instance.stop?.()
    return undefined
  }),
  startable('a new instance starts after the old one stopped', async (subject) => {
    const stateRoot = join(subject.scratch, 'again')
    for (let i = 0; i < 2; i++) {
      const { instance, abort } = start(subject, stateRoot)
      await instance.start?.()
      abort.abort()
      await instance.stop?.()
    }
    return undefined
  }),
  startable('stop is safe after a failed start', async (subject) => {
    // A file stands where the plugin's state folder should be.
    const stateRoot = join(subject.scratch, 'broken')
    mkdirSync(stateRoot)
    const { instance, stateDir, abort } = subject.setUp(stateRoot)
    writeFileSync(stateDir, '')
    let seen = 'its start needs no state folder, so it did not fail'
    try {
      await instance.start?.()
    } catch (error) {
      seen = `the start failed with: ${messageOf(error)}`
    }
    abort.abort()
    await instance.stop?.()
    return seen
  }),
]

function start(subject: Subject, stateRoot?: string) {
  const loaded = subject.setUp(stateRoot)
  mkdirSync(loaded.stateDir, { recursive: true, mode: 0o700 })
  return loaded
}

function startable(check: string, run: (subject: Subject) => Promise<string | undefined>): Check {
  return {
    check,
    run: (subject) =>
      subject.unmet === undefined ? run(subject) : `not tried here: ${subject.unmet}`,
  }
}
