/** Anything JSON. */
export type Json = Readonly<Record<string, unknown>>

interface Operation {
  readonly operationId?: string
  readonly summary?: string
  readonly parameters?: readonly { name: string; in: string; required: boolean; schema: Json }[]
  readonly requestBody?: { readonly content?: Json }
  readonly responses?: Readonly<Record<string, { readonly description?: string }>>
}

const METHODS = ['get', 'put', 'post', 'delete', 'options', 'head', 'patch', 'trace']

/** What is wrong with the structure of an OpenAPI 3.1 document; empty when nothing is. */
export function openapiProblems(document: Json): string[] {
  const problems: string[] = []
  const ids = new Set<string>()
  if (!/^3\.1\.\d+$/.test(String(document.openapi))) problems.push('openapi is no 3.1 version')
  const info = document.info as Json | undefined
  for (const key of ['title', 'version']) if (!info?.[key]) problems.push(`info.${key} is missing`)
  for (const [path, item] of Object.entries(document.paths as Record<string, Json>)) {
    if (!/^\/([^{}?#*:]|\{[^{}/]+\})*$/.test(path)) problems.push(`${path} is no path template`)
    for (const [method, value] of Object.entries(item)) {
      const at = `${method} ${path}`
      const operation = value as Operation
      if (!METHODS.includes(method)) problems.push(`${at}: no such method`)
      if (!operation.operationId) problems.push(`${at}: no operationId`)
      if (ids.has(operation.operationId ?? '')) problems.push(`${at}: operationId is not unique`)
      ids.add(operation.operationId ?? '')
      if (!operation.summary) problems.push(`${at}: no summary`)
      const answers = Object.entries(operation.responses ?? {})
      if (answers.length === 0) problems.push(`${at}: no responses`)
      for (const [status, { description }] of answers) {
        if (!/^([1-5]\d\d|default)$/.test(status)) problems.push(`${at}: status ${status}`)
        if (!description) problems.push(`${at}: ${status} has no description`)
      }
      if (operation.requestBody && !operation.requestBody.content)
        problems.push(`${at}: no content`)
      problems.push(...parameterProblems(at, path, operation))
    }
  }
  return [...problems, ...danglingRefs(document)]
}

function parameterProblems(at: string, path: string, { parameters }: Operation): string[] {
  const problems: string[] = []
  const seen = new Set<string>()
  for (const parameter of parameters ?? []) {
    const key = `${parameter.in} ${parameter.name}`
    if (seen.has(key)) problems.push(`${at}: ${key} is there twice`)
    seen.add(key)
    if (!['path', 'query', 'header', 'cookie'].includes(parameter.in))
      problems.push(`${at}: ${key}`)
    if (typeof parameter.schema !== 'object') problems.push(`${at}: ${key} has no schema`)
    if (parameter.in === 'path' && parameter.required !== true) {
      problems.push(`${at}: ${key} must be required`)
    }
  }
  const names = [...path.matchAll(/\{([^}]+)\}/g)].map(([, name]) => `path ${name}`)
  const declared = [...seen].filter((key) => key.startsWith('path '))
  if ([...names].sort().join() !== declared.sort().join()) {
    problems.push(`${at}: has ${declared.join(', ')}, needs ${names.join(', ')}`)
  }
  return problems
}

function danglingRefs(document: Json): string[] {
  const problems: string[] = []
  const visit = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return
    for (const [key, child] of Object.entries(value)) {
      if (key === '$ref' && typeof child === 'string') {
        if (resolveRef(document, child) === undefined) problems.push(`${child} leads nowhere`)
      } else visit(child)
    }
  }
  visit(document)
  return problems
}

function resolveRef(document: Json, ref: string): unknown {
  if (!ref.startsWith('#/')) return undefined
  let at: unknown = document
  for (const part of ref.slice(2).split('/')) at = (at as Json | undefined)?.[part]
  return at
}

/** Whether a value is what a schema says; knows as much of JSON Schema as our schemas use. */
export function accepts(document: Json, schema: Json, value: unknown): boolean {
  if (typeof schema.$ref === 'string') {
    return accepts(document, resolveRef(document, schema.$ref) as Json, value)
  }
  if (Array.isArray(schema.enum) && !schema.enum.includes(value)) return false
  if ('const' in schema && schema.const !== value) return false
  if (Array.isArray(schema.anyOf)) return schema.anyOf.some((one) => accepts(document, one, value))
  switch (schema.type) {
    case 'string':
      return typeof value === 'string' && acceptsText(schema, value)
    case 'integer':
    case 'number': {
      const whole = schema.type === 'number' || Number.isInteger(value)
      const { minimum = -Infinity, maximum = Infinity } = schema as Record<string, number>
      return typeof value === 'number' && whole && value >= minimum && value <= maximum
    }
    case 'boolean':
      return typeof value === 'boolean'
    case 'array':
      return Array.isArray(value) && value.every((v) => accepts(document, schema.items as Json, v))
    case 'object':
      return acceptsObject(document, schema, value)
    default:
      return true
  }
}

function acceptsText(schema: Json, value: string): boolean {
  const { minLength = 0, maxLength = Infinity } = schema as Record<string, number>
  const pattern = typeof schema.pattern === 'string' ? new RegExp(schema.pattern, 'u') : undefined
  return value.length >= minLength && value.length <= maxLength && (pattern?.test(value) ?? true)
}

function acceptsObject(document: Json, schema: Json, value: unknown): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  const properties = (schema.properties ?? {}) as Record<string, Json>
  const required = (schema.required ?? []) as string[]
  if (!required.every((key) => Object.hasOwn(value, key))) return false
  return Object.entries(value).every(([key, child]) => {
    const property = Object.hasOwn(properties, key) ? properties[key] : undefined
    if (property) return accepts(document, property, child)
    return schema.additionalProperties !== false
  })
}
