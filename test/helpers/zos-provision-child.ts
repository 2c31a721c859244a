// A node that goes through the story and kills itself: `zos-provision-child.ts FOLDER STEP`. A step is
// before or after each write and sync of a file, and each change of a driver. Prints how many there
// were when it came to the end.
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { live, note, STORY, storyNode } from './zos-provision-story.ts'

const [folder = '', at = ''] = process.argv.slice(2)
let steps = 0

function step(): void {
  steps++
  if (steps !== Number(at)) return
  process.kill(process.pid, 'SIGKILL')
  // The signal is delivered when a thread returns from the kernel: nothing may happen until then.
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000)
}

const probe = await open(join(folder, 'probe'), 'w')
const prototype = Object.getPrototypeOf(probe)
await probe.close()
for (const name of ['write', 'datasync', 'sync']) {
  const real = prototype[name]
  prototype[name] = async function (...args: unknown[]) {
    step()
    const done = await real.apply(this, args)
    step()
    return done
  }
}

const node = storyNode(folder, step)
await node.deployments.start()
for (const chapter of STORY) {
  note(folder, `began ${chapter}`)
  await live(node, chapter)
  note(folder, `acknowledged ${chapter}`)
  await node.idle()
  if (chapter !== 'end') note(folder, `history ${JSON.stringify(await node.history())}`)
}
await node.deployments.stop()
console.log(steps)
