/**
 * After a start, machines wait until networks are back: those of other deployments of their twin, too.
 */
export class NetworksUp {
  readonly #missing = new Set<unknown>()
  #resolve: () => void = () => undefined
  readonly up = new Promise<void>((resolve) => {
    this.#resolve = resolve
  })

  /** To be called for all that may have networks, before {@link begin}. */
  expect(owner: unknown): void {
    this.#missing.add(owner)
  }

  begin(): void {
    if (this.#missing.size === 0) this.#resolve()
  }

  /** The networks of an owner are up, or will not come. */
  done(owner: unknown): void {
    if (this.#missing.delete(owner) && this.#missing.size === 0) this.#resolve()
  }
}
