/** Something in a process of its own. */
export interface Killable {
  signal(name: NodeJS.Signals): void
  /** SIGKILL, and waits for its end. */
  kill(): Promise<void>
}

/** Longer than most steps take would miss states between them. */
const SLICE_MS = 0.2

/**
 * Kills a machine at a moment that is soon over: it runs for a fifth of a millisecond at a time, and
 * is looked at while it is stopped.
 *
 * @param isThen Whether it is the moment.
 * @param over What is being done; when it ends before the moment came, the machine is killed then.
 */
export async function killWhen(
  machine: Killable,
  isThen: () => boolean,
  over: Promise<unknown>,
): Promise<void> {
  let isOver = false
  const end = () => {
    isOver = true
  }
  over.then(end, end)
  for (;;) {
    machine.signal('SIGSTOP')
    if (isThen() || isOver) break
    machine.signal('SIGCONT')
    const until = performance.now() + SLICE_MS
    while (performance.now() < until);
    // For the answer to be read.
    await new Promise((turn) => setImmediate(turn))
  }
  await machine.kill()
}
