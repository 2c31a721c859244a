import * as v from 'valibot'
import { isImageId, parseImageReference } from '../../../src/engine/reference.ts'
import { MAX_NAME, MAX_VALUE } from './limits.ts'

/*
 * The rules of spec §9.1, as schemas. Messages complete the sentence "<path> …" and quote nothing.
 */

/** A non-negative integer, as number or in digits. */
export const Id = v.pipe(
  v.union(
    [v.number(), v.pipe(v.string(), v.regex(/^[0-9]{1,16}$/), v.transform(Number))],
    'must be a non-negative integer',
  ),
  v.safeInteger('must be a non-negative integer'),
  v.minValue(0, 'must be a non-negative integer'),
)

/** The name of a device or an app. */
export const Title = v.pipe(
  v.string('must be a string'),
  v.maxLength(MAX_NAME, `must have at most ${MAX_NAME} characters`),
  v.check((text) => !/[\n\r\0]/.test(text), 'must be one line'),
)

/** The name of a service, a volume or a network. */
export const ObjectName = v.pipe(
  v.string('must be a string'),
  v.maxLength(MAX_NAME, `must have at most ${MAX_NAME} characters`),
  v.regex(
    /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/,
    'must begin with a letter or digit and hold only letters, digits, "_", "." and "-"',
  ),
)

/** UUID of an app: it begins the names of its networks, which are known by that (spec §13.3). */
export const Uuid = v.pipe(
  v.string('must be a string'),
  v.regex(/^[0-9a-fA-F]{1,64}$/, 'must be 1 to 64 hex digits'),
)

/** The release, in the names of containers. */
export const Commit = v.pipe(
  v.string('must be a string'),
  v.regex(
    /^[a-zA-Z0-9_.-]{1,128}$/,
    'must be 1 to 128 letters, digits, "_", "." and "-" that name a release',
  ),
)

/** What the engine is asked to pull. */
export const ImageReference = v.pipe(
  v.string('must be a string'),
  v.nonEmpty('must not be empty'),
  v.maxLength(MAX_NAME, `must have at most ${MAX_NAME} characters`),
  v.check(
    (text) => parseImageReference(text) !== undefined || isImageId(text),
    'must be a reference to an image',
  ),
)

/** The end of a reference that names content. */
export const DIGEST = /@sha256:[0-9a-f]{64}$/

/** As the name of a member it has a meaning of its own in JavaScript. */
const notProto = v.check<string, string>(
  (name) => name !== '__proto__',
  'must have a name that is not "__proto__"',
)

export const EnvironmentName = v.pipe(
  v.string(),
  notProto,
  v.maxLength(MAX_NAME, `must have a name of at most ${MAX_NAME} characters`),
  v.regex(
    /^[a-zA-Z_][a-zA-Z0-9_]*$/,
    'must have a name of letters, digits and "_" that begins with no digit',
  ),
)

/** Names of configuration variables may hold colons. */
export const ConfigName = v.pipe(
  v.string(),
  notProto,
  v.maxLength(MAX_NAME, `must have a name of at most ${MAX_NAME} characters`),
  v.regex(
    /^[a-zA-Z_][a-zA-Z0-9_:]*$/,
    'must have a name of letters, digits, "_" and ":" that begins with no digit',
  ),
)

export const LabelName = v.pipe(
  v.string(),
  notProto,
  v.maxLength(MAX_NAME, `must have a name of at most ${MAX_NAME} characters`),
  v.regex(/^[!#-&(-_a-~]+$/, 'must have a name of printable characters without quotes or blanks'),
)

/** Of a variable or label. */
export const Value = v.pipe(
  v.string('must be a string'),
  v.maxLength(MAX_VALUE, `must have at most ${MAX_VALUE} characters`),
  v.check((text) => !text.includes('\0'), 'must hold no NUL'),
)

export const Running = v.boolean('must be true or false')

export const Class = v.picklist(['fleet', 'app', 'block'], 'must be "fleet", "app" or "block"')
