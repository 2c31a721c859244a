import type { AppView, ImageView, StatusView } from '../supervisor.ts'
import { appViews, imageViews, type Seen, statusView } from './views.ts'

interface Views {
  readonly apps: AppView[]
  readonly images: ImageView[]
  readonly status: StatusView
}

/** Views that are made once for every revision, when somebody asks. */
export class KeptViews {
  readonly #seen: Seen
  readonly #revision: () => number
  #views: Partial<Views> = {}
  #viewed = -1

  constructor(seen: Seen, revision: () => number) {
    this.#seen = seen
    this.#revision = revision
  }

  apps(): AppView[] {
    return this.#view('apps', appViews)
  }

  images(): ImageView[] {
    return this.#view('images', imageViews)
  }

  status(): StatusView {
    return this.#view('status', statusView)
  }

  #view<Name extends keyof Views>(name: Name, make: (seen: Seen) => Views[Name]): Views[Name] {
    const revision = this.#revision()
    if (this.#viewed !== revision) this.#views = {}
    this.#viewed = revision
    const known: Views[Name] | undefined = this.#views[name]
    if (known !== undefined) return known
    const made = make(this.#seen)
    this.#views = { ...this.#views, [name]: made }
    return made
  }
}
