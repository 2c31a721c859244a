import { openapi } from '../openapi.ts'
import { type RouteEntry, routesOf } from '../registry.ts'
import { type Check, failAny, type Subject } from './check.ts'

/** What clients and the OpenAPI document rely on. */
export const routeChecks: readonly Check[] = [
  eachRoute('every route has a summary', ({ facts }) => facts.summary.trim() !== ''),
  eachRoute('every path parameter has a schema', ({ path, schemas }) => {
    const names = [...path.matchAll(/:([^/{?]+)/g)].map(([, name]) => name as string)
    const declared = schemas.flatMap(({ target, schema }) =>
      target === 'param' ? Object.keys((schema as { shape?: object }).shape ?? {}) : [],
    )
    return names.every((name) => declared.includes(name))
  }),
  {
    check: 'every route that takes a body says so',
    run(subject) {
      // A body nobody declared cannot be seen from outside; naming these routes is all we can do.
      const without = routes(subject).filter(
        ({ method, facts, schemas }) =>
          ['POST', 'PUT', 'PATCH'].includes(method) &&
          facts.body !== 'stream' &&
          !schemas.some(({ target }) => target === 'json' || target === 'form'),
      )
      if (without.length === 0) return undefined
      return `taken to have none: ${without.map(label).join(', ')}`
    },
  },
  {
    check: 'paths are below /<name>/, and /cvmd/ is left to the core',
    run(subject) {
      if (subject.options.builtin) return 'a built-in plugin may mirror any API'
      const { name } = subject.plugin
      const outside = routes(subject).filter(
        ({ path }) => path !== `/${name}` && !path.startsWith(`/${name}/`),
      )
      failAny(outside.map((entry) => `${label(entry)} is outside /${name}/`))
      return undefined
    },
  },
  {
    check: 'the routes make an OpenAPI document',
    run(subject) {
      const found = routes(subject)
      const { paths } = openapi(found) as { readonly paths: object }
      return `${found.length} routes, ${Object.keys(paths).length} paths`
    },
  },
]

function eachRoute(check: string, holds: (entry: RouteEntry) => boolean): Check {
  return {
    check,
    run(subject) {
      failAny(
        routes(subject)
          .filter((entry) => !holds(entry))
          .map(label),
      )
      return undefined
    },
  }
}

function routes(subject: Subject): RouteEntry[] {
  return routesOf(subject.setUp())
}

function label({ method, path }: RouteEntry): string {
  return `${method} ${path}`
}
