// A process that makes the device's key anew without end: `supervisor-keys-child.ts FOLDER`.
// Prints each key once it is valid.
import { GLOBAL, SupervisorKeys } from '../../plugins/supervisor/keys/supervisor-keys.ts'

const keys = new SupervisorKeys({ folder: process.argv[2] ?? '' })
await keys.open()
process.stdout.write(`${keys.keyOf(GLOBAL)}\n`)
for (;;) process.stdout.write(`${await keys.regenerate(GLOBAL)}\n`)
