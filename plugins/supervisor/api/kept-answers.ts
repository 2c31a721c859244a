import { isGlobal, type KeyHolder } from '../keys/scopes.ts'

/** Answers of one route; one per app with keys, and the one for the whole device. */
const MAX_KEPT = 256

/**
 * JSON that is asked for far more often than it changes: made once, and given out until what it
 * tells is another.
 */
export class KeptAnswers {
  readonly #texts = new Map<string, { readonly stamp: string; readonly text: string }>()

  /**
   * @param stamp Another one when anything that the answer tells has changed.
   * @param make Gives what only this caller may see.
   */
  of(holder: KeyHolder, stamp: string, make: () => unknown): string {
    const scope = isGlobal(holder) ? '*' : holder.scopes.map(scopeName).join(' ')
    const kept = this.#texts.get(scope)
    if (kept?.stamp === stamp) return kept.text
    const text = JSON.stringify(make())
    if (this.#texts.size >= MAX_KEPT) this.#texts.clear()
    this.#texts.set(scope, { stamp, text })
    return text
  }
}

function scopeName(scope: KeyHolder['scopes'][number]): string {
  return scope.type === 'app' ? String(scope.appId) : '*'
}
