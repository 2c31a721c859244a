/** Row A2 of the fault matrix: commands of the host leave nothing behind. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { runCommand } from '../../plugins/supervisor/host/command.ts'
import { lacks } from '../helpers/counterpart.ts'
import { zombieChildren } from '../helpers/zombies.ts'

test('hundreds of commands, good and bad, leave no defunct process', async (t) => {
  if (lacks(t, 'proc', existsSync('/proc/self/stat'))) return
  const argvs = [['true'], ['false'], ['sh', '-c', 'sleep 0 & exit 3'], ['/nowhere/command']]
  for (let round = 0; round < 25; round += 1) {
    const ends = await Promise.all([...argvs, ...argvs].map(runCommand))
    assert.deepEqual(
      ends.slice(0, 4).map(({ problem }) => problem === undefined),
      [true, false, false, false],
    )
  }
  // Children of theirs are init's to reap; ours are gone a moment after their end.
  for (let left = 100; zombieChildren().length > 0 && left > 0; left -= 1) {
    await new Promise((tick) => setTimeout(tick, 20))
  }
  assert.deepEqual(zombieChildren(), [])
})
