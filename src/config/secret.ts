import { readFileSync } from 'node:fs'
import * as v from 'valibot'

const HIDDEN = '[secret]'

/**
 * A value that lives in a file and is loaded on each use, so that it can be rotated and never
 * lingers in the configuration. Printing, inspecting or serialising it gives `[secret]`.
 */
export class Secret {
  readonly file: string

  constructor(file: string) {
    this.file = file
  }

  /**
   * The file's content without trailing line ends.
   *
   * @throws {Error} With the file's path when it cannot be read.
   */
  read(): string {
    try {
      return readFileSync(this.file, 'utf8').replace(/[\r\n]+$/, '')
    } catch (cause) {
      throw new Error(`Cannot read the secret in "${this.file}"`, { cause })
    }
  }

  toJSON(): string {
    return HIDDEN
  }

  toString(): string {
    return HIDDEN
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return HIDDEN
  }
}

/** A configuration field that names a file: `token = { file = "/run/secrets/token" }`. */
export function secret() {
  return v.pipe(
    v.strictObject({ file: v.pipe(v.string(), v.nonEmpty()) }),
    v.description('A secret: the path of the file that holds it'),
    v.transform(({ file }) => new Secret(file)),
  )
}
