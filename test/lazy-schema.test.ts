import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Hono } from 'hono'
import { z } from 'zod'
import { lazySchema } from '../src/lazy-schema.ts'
import { looseJson, validate } from '../src/validate.ts'

test('a schema is built when it is used, and once', () => {
  let built = 0
  const Name = lazySchema(() => {
    built++
    return z.object({ name: z.string() })
  })
  const List = lazySchema(() => z.array(Name))
  const Named = lazySchema(() => Name.extend({ age: z.int().optional() }))
  assert.equal(built, 0)
  assert.deepEqual(List.parse([{ name: 'a' }]), [{ name: 'a' }])
  assert.equal(Named.safeParse({ name: 'a', age: 0.5 }).success, false)
  assert.equal(Name.shape.name.parse('b'), 'b')
  assert.equal(built, 1)
})

test('it is documented as the schema it stands for, with its descriptions', () => {
  const plain = () => z.object({ id: z.string().describe('Of the run') }).describe('One run')
  const Run = lazySchema(plain)
  const both = [z.array(plain()), z.array(Run)].map((schema) => z.toJSONSchema(schema))
  assert.deepEqual(both[1], both[0])
  assert.deepEqual(z.toJSONSchema(lazySchema(plain)), z.toJSONSchema(plain()))
})

test('requests are checked against it', async () => {
  const Body = lazySchema(() => z.strictObject({ count: z.int().default(1) }))
  const Query = lazySchema(() => z.object({ wait: z.coerce.number().max(5).optional() }))
  const app = new Hono()
    .get('/', validate('query', Query), (c) => c.json(c.req.valid('query')))
    .post('/', looseJson(Body), (c) => c.json(c.req.valid('json')))
  assert.deepEqual(await (await app.request('/?wait=3')).json(), { wait: 3 })
  assert.equal((await app.request('/?wait=6')).status, 500)
  assert.deepEqual(await (await app.request('/', { method: 'POST', body: '' })).json(), {
    count: 1,
  })
})
