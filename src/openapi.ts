import { z } from 'zod'
import type { RouteEntry } from './registry.ts'
import { VERSION } from './version.ts'

type Json = Readonly<Record<string, unknown>>

/**
 * The OpenAPI 3.1 document of the routes one listener serves, from the same zod schemas that check
 * the requests.
 */
export function openapi(routes: readonly RouteEntry[]): Json {
  const paths: Record<string, Record<string, Json>> = {}
  for (const entry of routes) {
    if (entry.method === 'ALL') continue
    const path = entry.path.replace(/:([^/{?]+)(\{[^}]*\})?\??/g, '{$1}')
    paths[path] ??= {}
    paths[path][entry.method.toLowerCase()] = operation(entry)
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
      },
      schemas: { Problem: PROBLEM },
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

function operation({ owner, method, path, facts, scope, schemas }: RouteEntry): Json {
  const body = schemas.find(({ target }) => target === 'json' || target === 'form')
  return {
    operationId: `${owner.plugin.name}.${method.toLowerCase()}${path.replace(/[^A-Za-z0-9]+/g, '.')}`,
    summary: facts.summary,
    tags: [owner.plugin.name],
    parameters: parametersOf(path, schemas),
    ...(body && {
      requestBody: { content: { [mediaType(body.target)]: { schema: jsonSchema(body.schema) } } },
    }),
    ...(facts.body === 'stream' && {
      requestBody: { content: { 'application/octet-stream': {} } },
    }),
    responses: responsesOf(facts.answers ?? {}),
    security: [{}, { basic: [] }, { key: [scope] }],
    'x-cvmd-scope': scope,
  }
}

function mediaType(target: string): string {
  return target === 'json' ? 'application/json' : 'application/x-www-form-urlencoded'
}

function parametersOf(path: string, schemas: RouteEntry['schemas']): Json[] {
  const names = [...path.matchAll(/:([^/{?]+)/g)].map(([, name]) => name as string)
  const declared = new Map<string, Json>()
  for (const { target, schema } of schemas) {
    const place = { param: 'path', query: 'query', header: 'header' }[target as string]
    if (place === undefined) continue
    const object = jsonSchema(schema) as {
      readonly properties?: Record<string, Json>
      readonly required?: readonly string[]
    }
    for (const [name, property] of Object.entries(object.properties ?? {})) {
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

function responsesOf(answers: NonNullable<RouteEntry['facts']['answers']>): Json {
  const responses: Record<string, Json> = {}
  for (const [status, { description, type, schema }] of Object.entries(answers)) {
    const content = schema
      ? { content: { [type ?? 'application/json']: { schema: jsonSchema(schema) } } }
      : type
        ? { content: { [type]: {} } }
        : {}
    responses[status] = { description, ...content }
  }
  if (Object.keys(responses).length === 0) responses['200'] = { description: 'Success' }
  responses.default = {
    description: 'Error',
    content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
  }
  return responses
}

function jsonSchema(schema: z.ZodType): Json {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' })
  return rest
}
