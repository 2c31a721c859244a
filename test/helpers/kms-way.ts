import { type Middle, type MiddleEvent, middle } from './tls-proxy.ts'

const ways: Middle[] = []

/**
 * A way to a KMS, on which something is done at a step, before what passes has passed.
 *
 * @param port Of the KMS.
 * @returns Its URL by this way, and whether the step came.
 */
export async function wayTo(
  port: number,
  step: MiddleEvent,
  act: () => void,
): Promise<{ readonly url: string; readonly isDone: () => boolean }> {
  let isDone = false
  const onEvent = ({ connection, turn }: MiddleEvent) => {
    if (isDone || connection !== step.connection || turn !== step.turn) return
    isDone = true
    act()
  }
  const way = await middle({ target: port, pairFor: () => undefined, onEvent })
  ways.push(way)
  return { url: way.url, isDone: () => isDone }
}

/** To be done when all tests of a file are over. */
export function closeWays(): void {
  for (const way of ways.splice(0)) way.close()
}
