import { ApiError } from '../../src/errors.ts'
import { accepts, type ParamConfig } from './config.ts'

/**
 * Checks what a caller gave against a command's declaration and fills in defaults. Values may be
 * secret, so no message quotes one.
 *
 * @throws {ApiError} 422 `PARAM_UNKNOWN`, `PARAM_MISSING` or `PARAM_INVALID`.
 */
export function checkParams(
  declared: readonly ParamConfig[],
  given: Readonly<Record<string, string>>,
): ReadonlyMap<string, string> {
  for (const name of Object.keys(given)) {
    if (declared.some((param) => param.name === name)) continue
    const known = declared.map((param) => param.name).join(', ') || 'none'
    throw new ApiError(
      422,
      'PARAM_UNKNOWN',
      `Cannot run the action with parameter "${name.slice(0, 64)}": it takes ${known}`,
    )
  }
  const values = new Map<string, string>()
  for (const param of declared) {
    const value = Object.hasOwn(given, param.name) ? given[param.name] : param.default
    if (value === undefined) {
      if (!param.required) continue
      throw new ApiError(
        422,
        'PARAM_MISSING',
        `Cannot run the action without parameter "${param.name}"`,
      )
    }
    if (!accepts(param, value)) {
      throw new ApiError(
        422,
        'PARAM_INVALID',
        `Cannot run the action: parameter "${param.name}" must match ${param.pattern} ` +
          `and have at most ${param.max_length} characters`,
      )
    }
    values.set(param.name, value)
  }
  return values
}

/**
 * Puts values in place of `{name}` in each argument. One value stays within one argument whatever
 * it contains, is never searched for placeholders again, and names that are not in `values` stay
 * as written (`awk '{print}'`).
 */
export function fillIn(argv: readonly string[], values: ReadonlyMap<string, string>): string[] {
  return argv.map((part) =>
    part.replace(/\{([a-z][a-z0-9_]*)\}/g, (whole, name: string) => values.get(name) ?? whole),
  )
}

/** The values as environment variables: `host` becomes `PARAM_HOST`. */
export function paramEnv(values: ReadonlyMap<string, string>): Record<string, string> {
  return Object.fromEntries(
    [...values].map(([name, value]) => [`PARAM_${name.toUpperCase()}`, value]),
  )
}
