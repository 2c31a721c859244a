import { type Json, SchemaBook } from './openapi-schemas.ts'
import type { RouteEntry } from './registry.ts'
import { VERSION } from './version.ts'

/** What a path item may hold (OpenAPI 3.1.1 §4.8.9); other methods cannot be told. */
const METHODS = ['GET', 'PUT', 'POST', 'DELETE', 'OPTIONS', 'HEAD', 'PATCH', 'TRACE']

/** What a route for all methods is shown as. */
const COMMON = ['GET', 'PUT', 'POST', 'DELETE', 'PATCH']

/**
 * The OpenAPI 3.1 document of the routes one listener serves, from the same zod schemas that check
 * the requests. The first of two routes with one path and method is shown, as it is the one that
 * answers. A wildcard, which OpenAPI has no word for, is shown as the parameter `rest`.
 */
export function openapi(routes: readonly RouteEntry[]): Json {
  const book = new SchemaBook({ Problem: PROBLEM })
  const paths: Record<string, Record<string, Json>> = {}
  const ids = new Set<string>()
  for (const entry of routes) {
    const methods = entry.method === 'ALL' ? COMMON : [entry.method]
    for (const template of templatesOf(entry.path)) {
      for (const method of methods.filter((name) => METHODS.includes(name))) {
        paths[template] ??= {}
        const item = paths[template]
        if (item[method.toLowerCase()]) continue
        const id = uniqueId(`${entry.owner.plugin.name}.${method.toLowerCase()}`, template, ids)
        item[method.toLowerCase()] = operation(entry, template, id, book)
      }
    }
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'cvmd',
      version: VERSION,
      description: 'The daemon between a confidential VM and the people and programs around it',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    paths,
    components: {
      securitySchemes: {
        basic: { type: 'http', scheme: 'basic' },
        key: { type: 'http', scheme: 'bearer' },
        certificate: { type: 'mutualTLS' },
      },
      schemas: book.components,
    },
  }
}

const PROBLEM: Json = {
  type: 'object',
  required: ['status', 'title', 'code', 'detail'],
  properties: {
    status: { type: 'integer' },
    title: { type: 'string' },
    code: { type: 'string', description: 'Stable identifier of the error' },
    detail: { type: 'string' },
  },
}

/** `/a/:b{[0-9]+}` as `/a/{b}`; an optional last parameter makes two templates. */
function templatesOf(path: string): string[] {
  const optional = /^(.*)\/(:[^/]+)\?$/.exec(path)
  const paths = optional ? [optional[1] || '/', `${optional[1]}/${optional[2]}`] : [path]
  return paths.map((one) =>
    one.replace(/:([^/{]+)(\{[^/]*\})?/g, '{$1}').replace(/\*(?=$|\/)/, '{rest}'),
  )
}

function uniqueId(prefix: string, template: string, taken: Set<string>): string {
  const words = template.split(/[^A-Za-z0-9]+/).filter((word) => word !== '')
  const base = [prefix, ...words].join('.')
  let id = base
  for (let n = 2; taken.has(id); n++) id = `${base}.${n}`
  taken.add(id)
  return id
}

function operation(entry: RouteEntry, template: string, id: string, book: SchemaBook): Json {
  const { owner, facts, scope } = entry
  const body = bodyOf(entry, id, book)
  return {
    operationId: id,
    summary: facts.summary,
    tags: [owner.plugin.name],
    parameters: parametersOf(entry, template, id, book),
    ...(body && { requestBody: body }),
    responses: responsesOf(entry, id, book),
    security: [{}, { basic: [] }, { key: [scope] }, { certificate: [scope] }],
    'x-cvmd-scope': scope,
  }
}

function bodyOf({ facts, schemas }: RouteEntry, id: string, book: SchemaBook): Json | undefined {
  if (facts.body === 'stream') return { content: { 'application/octet-stream': {} } }
  const body = schemas.find(({ target }) => target === 'json' || target === 'form')
  if (!body) return undefined
  const type = body.target === 'json' ? 'application/json' : 'application/x-www-form-urlencoded'
  return { content: { [type]: { schema: book.convert(body.schema, 'input', `${id}.body`) } } }
}

const PLACES: Readonly<Record<string, string>> = {
  param: 'path',
  query: 'query',
  header: 'header',
  cookie: 'cookie',
}

function parametersOf(
  { schemas }: RouteEntry,
  template: string,
  id: string,
  book: SchemaBook,
): Json[] {
  const names = [...template.matchAll(/\{([^}]+)\}/g)].map(([, name]) => name as string)
  const declared = new Map<string, Json>()
  for (const { target, schema } of schemas) {
    const place = PLACES[target]
    if (place === undefined) continue
    const object = book.resolve(book.convert(schema, 'input', `${id}.${place}`)) as {
      readonly properties?: Record<string, Json>
      readonly required?: readonly string[]
    }
    for (const [name, property] of Object.entries(object.properties ?? {})) {
      if (place === 'path' && !names.includes(name)) continue
      const required = place === 'path' || (object.required?.includes(name) ?? false)
      declared.set(`${place} ${name}`, { name, in: place, required, schema: property })
    }
  }
  for (const name of names) {
    if (declared.has(`path ${name}`)) continue
    declared.set(`path ${name}`, { name, in: 'path', required: true, schema: { type: 'string' } })
  }
  return [...declared.values()]
}

function responsesOf({ owner, facts }: RouteEntry, id: string, book: SchemaBook): Json {
  const responses: Record<string, Json> = {}
  for (const [status, answer] of Object.entries(facts.answers ?? {})) {
    const { description, type = 'application/json', schema } = answer
    const media = schema ? { schema: book.convert(schema, 'output', `${id}.${status}`) } : {}
    const content = schema || answer.type ? { content: { [type]: media } } : {}
    responses[status] = { description, ...content }
  }
  if (Object.keys(responses).length === 0) responses['200'] = { description: 'Success' }
  responses.default = owner.plugin.renderError
    ? { description: 'Error, in the form of the API that is mirrored' }
    : {
        description: 'Error',
        content: {
          'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } },
        },
      }
  return responses
}
