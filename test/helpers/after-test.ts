import { afterEach } from 'node:test'

const works: (() => unknown)[] = []

/**
 * Does something after the test that runs now. In place of `t.after`, which Deno 2.9 does not call
 * for a test in a `describe`; that one has to call {@link cleanAfterEach}.
 */
export function afterTest(work: () => unknown): void {
  works.push(work)
}

/** Does what the tests of this `describe` left to do, the latest first. */
export function cleanAfterEach(): void {
  afterEach(async () => {
    const errors: unknown[] = []
    for (const work of works.splice(0).reverse()) {
      try {
        await work()
      } catch (error) {
        errors.push(error)
      }
    }
    if (errors.length > 0) throw errors[0]
  })
}
