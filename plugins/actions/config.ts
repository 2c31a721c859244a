import * as v from 'valibot'

const NO_NUL = v.regex(/^[^\0]*$/, 'must not contain NUL')
const Text = v.pipe(v.string(), NO_NUL)
const Path = v.pipe(Text, v.startsWith('/', 'must be an absolute path'))

function amount(most: number, description: string) {
  return v.pipe(
    v.number(),
    v.integer(),
    v.minValue(0),
    v.maxValue(most),
    v.description(description),
  )
}

function seconds(description: string) {
  return v.pipe(v.number(), v.minValue(0), v.maxValue(86_400), v.description(description))
}

function isPattern(text: string): boolean {
  try {
    new RegExp(text, 'u')
    return true
  } catch {
    return false
  }
}

const Param = v.pipe(
  v.strictObject({
    name: v.pipe(
      v.string(),
      v.regex(/^[a-z][a-z0-9_]{0,63}$/, 'must be a lower-case identifier'),
      v.description('Placeholder {name} in argv, variable PARAM_NAME in the environment'),
    ),
    pattern: v.optional(
      v.pipe(
        v.string(),
        v.check(isPattern, 'must be a regular expression'),
        v.description('Regular expression the whole value must match'),
      ),
      // No leading dash, so that a value is never taken for an option.
      '[A-Za-z0-9_][A-Za-z0-9._-]*',
    ),
    max_length: v.optional(amount(4096, 'Longest value, in UTF-16 units'), 256),
    required: v.optional(v.pipe(v.boolean(), v.description('Refuse a run without it')), true),
    default: v.optional(v.pipe(Text, v.description('Value of a run that does not give one'))),
  }),
  v.check(
    (param) => param.default === undefined || accepts(param, param.default),
    'the default does not match the pattern or is too long',
  ),
)

/** A declared parameter of a command. */
export type ParamConfig = v.InferOutput<typeof Param>

/** Whether a value satisfies a parameter's declaration; NUL never does. */
export function accepts(
  param: { readonly pattern: string; readonly max_length: number },
  value: string,
): boolean {
  if (value.length > param.max_length || value.includes('\0')) return false
  return new RegExp(`^(?:${param.pattern})$`, 'u').test(value)
}

const Command = v.pipe(
  v.strictObject({
    description: v.optional(v.pipe(v.string(), v.description('Shown in the list')), ''),
    argv: v.optional(
      v.pipe(
        v.array(Text),
        v.minLength(1),
        v.check(([program]) => program !== '', 'the program must not be empty'),
        v.description('Program and arguments, run without a shell'),
      ),
    ),
    shell: v.optional(v.pipe(Text, v.description('Command string for the shell'))),
    system_api: v.optional(
      v.pipe(
        v.boolean(),
        v.description('Run as system-api does: whole environment, no limits, details in events'),
      ),
      false,
    ),
    user: v.optional(
      v.pipe(
        v.union([v.pipe(v.string(), v.nonEmpty()), v.pipe(v.number(), v.integer(), v.minValue(0))]),
        v.description('Name or uid to run as; needs root'),
      ),
    ),
    cwd: v.optional(v.pipe(Path, v.description('Working directory'))),
    env: v.optional(
      v.pipe(
        v.record(v.pipe(v.string(), v.regex(/^[A-Za-z_][A-Za-z0-9_]*$/)), Text),
        v.description('Environment variables, added to PATH, HOME, LANG and TZ'),
      ),
      {},
    ),
    timeout_s: v.optional(seconds('Deadline; 0 sets none. Default 60, none with system_api')),
    max_output_bytes: v.optional(
      amount(
        16 * 1024 * 1024,
        'Kept of stdout and of stderr. Default 65536, 1 MiB with system_api',
      ),
    ),
    concurrency: v.optional(
      amount(1000, 'Runs at a time; 0 sets no limit. Default 1, no limit with system_api'),
    ),
    queue: v.optional(amount(1000, 'Runs that may wait for a place'), 0),
    params: v.optional(v.pipe(v.array(Param), v.maxLength(32)), []),
  }),
  v.check(
    ({ argv, shell }) => (argv === undefined) !== (shell === undefined),
    'needs exactly one of argv and shell',
  ),
  v.check(
    ({ params }) => new Set(params.map(({ name }) => name)).size === params.length,
    'two parameters have the same name',
  ),
  v.check(
    ({ argv, params }) => !params.some(({ name }) => argv?.[0]?.includes(`{${name}}`)),
    'a parameter must not choose the program',
  ),
  v.check(
    ({ argv, params }) =>
      params
        .filter((param) => !param.required && param.default === undefined)
        .every(({ name }) => !argv?.some((part) => part.includes(`{${name}}`))),
    'a parameter in argv must be required or have a default',
  ),
)

/** One entry of `[plugins.actions.commands]`. */
export type CommandConfig = v.InferOutput<typeof Command>

/** The table `[plugins.actions]`. */
export const Config = v.strictObject({
  shell: v.optional(
    v.pipe(
      Text,
      v.description('Program that runs shell commands; auto: /bin/ash where it exists, or /bin/sh'),
    ),
    'auto',
  ),
  grace_s: v.optional(
    v.pipe(
      v.number(),
      v.minValue(0),
      v.maxValue(60),
      v.description('Time between TERM and KILL when a run is ended'),
    ),
    5,
  ),
  max_runs: v.optional(amount(10_000, 'Finished runs kept'), 100),
  max_history_bytes: v.optional(
    amount(1024 * 1024 * 1024, 'Output of finished runs kept'),
    4 * 1024 * 1024,
  ),
  commands: v.optional(
    v.pipe(
      v.record(v.pipe(v.string(), v.nonEmpty()), Command),
      v.check(
        (commands) =>
          Object.entries(commands).every(([name, { system_api }]) => {
            // system-api takes such names too, and never finds them.
            return system_api || !name.includes('/')
          }),
        'the name of a command must not contain "/"',
      ),
      v.description('The commands, by name'),
    ),
    {},
  ),
})

export type ActionsConfig = v.InferOutput<typeof Config>
