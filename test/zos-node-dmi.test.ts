import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { DMI_DECODER, MAX_DMI_CHARACTERS, parseDmi } from '../plugins/zos/node/dmi.ts'
import type { Dmi, DmiSection } from '../plugins/zos/node/facts.ts'
import { lacks } from './helpers/counterpart.ts'
import { vectors } from './helpers/vectors.ts'

const TEXT = `# dmidecode 3.4
Getting SMBIOS data from sysfs.
# a second comment is none of ours
SMBIOS 3.0.0 present.

Handle 0x0000, DMI type 0, 24 bytes
BIOS Information
	Vendor: SeaBIOS: the open one
	Characteristics:
		PCI is supported
			5.25"/1.2 MB floppy services: none
	BIOS Revision: 0.0
	Vendor: Twice
OEM strings
	Strings: 1

Handle 0x0026, DMI type 126, 26 bytes
Inactive

Handle 0x001C, DMI type 28, 22 bytes
Temperature Probe
	__proto__: shown
`

/** What a property is without items. */
const is = (value: string) => ({ value })

const PARSED: Dmi = {
  tooling: { aggregator: 'dmidecode 3.4', decoder: DMI_DECODER },
  sections: [
    {
      handleline: 'Handle 0x0000, DMI type 0, 24 bytes',
      typestr: 'BIOS',
      typenum: 0,
      subsections: [
        {
          title: 'BIOS Information',
          properties: {
            Vendor: is('Twice'),
            Characteristics: {
              value: '',
              items: ['PCI is supported', '5.25"/1.2 MB floppy services: none'],
            },
            'BIOS Revision': is('0.0'),
          },
        },
        { title: 'OEM strings', properties: { Strings: is('1') } },
      ],
    },
    {
      handleline: 'Handle 0x0026, DMI type 126, 26 bytes',
      typestr: 'Custom Type 126',
      typenum: 126,
      subsections: [{ title: 'Inactive' }],
    },
    {
      handleline: 'Handle 0x001C, DMI type 28, 22 bytes',
      typestr: 'TempratureProbe',
      typenum: 28,
      subsections: [
        {
          title: 'Temperature Probe',
          properties: Object.fromEntries([['__proto__', is('shown')]]),
        },
      ],
    },
  ],
}

test('DMI: sections, titles, properties and their items', () => {
  assert.deepEqual(parseDmi(TEXT), PARSED)
  assert.deepEqual(parseDmi(TEXT, { strict: true }), PARSED)
  assert.match(JSON.stringify(parseDmi(TEXT)), /"__proto__":\{"value":"shown"\}/)
})

test('DMI: the vectors of the reference', (t) => {
  const folder = vectors('zos/dmi')
  if (lacks(t, 'vectors', folder !== undefined) || folder === undefined) return
  const names = readdirSync(folder).filter((name) => name.endsWith('.txt'))
  assert.ok(names.length >= 10)
  for (const name of names) {
    const text: string = readFileSync(join(folder, name), 'utf8')
    const json = readFileSync(join(folder, name.replace(/txt$/, 'json')), 'utf8')
    const expected: Dmi & { error?: string } = JSON.parse(json)
    if (expected.error === undefined) {
      const own = { ...expected, tooling: { ...expected.tooling, decoder: DMI_DECODER } }
      assert.deepEqual(parseDmi(text, { strict: true }), own, name)
      assert.deepEqual(parseDmi(text), own, name)
    } else {
      const { error: message } = expected
      assert.throws(() => parseDmi(text, { strict: true }), { name: 'ZosError', message }, name)
      assert.ok(parseDmi(text).sections.length > 0, name)
    }
  }
})

const BROKEN = [
  {
    what: 'a property without a colon',
    text: 'Handle 1, DMI type 1, 1 bytes\nSystem\n\tA: 1\n\t<TRUNCATED>\n\t\titem: 1\n\tB: 2\n',
    message: "couldn't find key value pair on the line \t<TRUNCATED>",
    kept: [{ title: 'System', properties: { A: is('1'), B: is('2') } }],
  },
  {
    what: 'a handle without a type',
    text: 'Handle 0x1\nSystem\n\tA: 1\n\nHandle 2, DMI type 2\nBoard\n',
    message: "couldn't find dmitype in handleline Handle 0x1",
    kept: [{ title: 'Board' }],
  },
  {
    what: 'a type beyond all numbers',
    text: 'Handle 1, DMI type 99999999999999999999\nA\n\nHandle 2, DMI type 2\nBoard\n',
    message: "couldn't find dmitype in handleline Handle 1, DMI type 99999999999999999999",
    kept: [{ title: 'Board' }],
  },
  {
    what: 'a handle at the end',
    text: 'Handle 1, DMI type 1',
    message: 'invalid section size',
    kept: [{ title: '' }],
  },
]

for (const { what, text, message, kept } of BROKEN) {
  test(`DMI: ${what} is left out, and fails as in the reference where that is asked for`, () => {
    const { sections } = parseDmi(text)
    assert.deepEqual(
      sections.flatMap(({ subsections }) => subsections),
      kept,
    )
    assert.throws(() => parseDmi(text, { strict: true }), {
      name: 'ZosError',
      kind: 'failed',
      message,
    })
  })
}

test('DMI: nothing, and what is none', () => {
  const none = { tooling: { aggregator: 'unknown', decoder: DMI_DECODER }, sections: [] }
  assert.deepEqual(parseDmi(''), none)
  assert.deepEqual(parseDmi('SMBIOS 3.0\nno handle here'), none)
  assert.deepEqual(parseDmi('#\n'), none)
  const tail = parseDmi('# tool\nhandle\nHandle 1, DMI type 3\nChassis\n   \nHandled: no\n')
  assert.equal(tail.tooling.aggregator, 'tool')
  assert.deepEqual(
    tail.sections.map(({ typestr }) => typestr),
    ['Chassis'],
  )
})

test('DMI: a text over the limit is refused', () => {
  const long = `${'x'.repeat(MAX_DMI_CHARACTERS)}x`
  assert.throws(() => parseDmi(long), { name: 'ZosError', kind: 'failed' })
  assert.deepEqual(parseDmi(long.slice(1)).sections, [])
})

test('DMI: the worst text within the limit is read to its end', () => {
  const deep = (line: string) => {
    const head = 'Handle 1, DMI type 1\nT\n\tA:\n'
    return head + line.repeat(Math.floor((MAX_DMI_CHARACTERS - head.length) / line.length))
  }
  for (const line of ['\t\ti\n', '\tA:\n', 'T\n', 'Handle\n\n', `${' '.repeat(999)}\n`, '\t:']) {
    assert.ok(parseDmi(deep(line)).sections.length > 0)
  }
  const [first] = parseDmi(deep('\t\ti\n')).sections
  assert.equal(first?.subsections[0]?.properties?.A?.items?.length, 262_137)
})

/** Lines that make it through both ways: trimmed, not empty, no line ends. */
const word = fc.stringMatching(/^[A-Za-z0-9<>:()._-][ -~]{0,20}$/).map((text) => text.trim())
const key = word.map((text) => text.replaceAll(':', '_'))
const property = fc.record({ value: word, items: fc.option(fc.array(word, { minLength: 1 })) })
const subsection = fc.record({
  title: word.filter((text) => !text.startsWith('Handle')),
  properties: fc.dictionary(key, property, { noNullPrototype: true }),
})
const section = fc.record({
  type: fc.nat(200),
  subsections: fc.array(subsection, { minLength: 1, maxLength: 3 }),
})

test('DMI: what is printed as dmidecode prints it is read back', () => {
  fc.assert(
    fc.property(fc.array(section, { maxLength: 5 }), (sections) => {
      const lines = ['# dmidecode 9', '']
      const expected: Pick<DmiSection, 'typenum' | 'subsections'>[] = []
      for (const { type, subsections } of sections) {
        lines.push(`Handle 0x0001, DMI type ${type}, 9 bytes`)
        const read = subsections.map(({ title, properties }) => {
          lines.push(title)
          const all = Object.entries(properties).map(([name, { value, items }]) => {
            lines.push(`\t${name}: ${value}`, ...(items ?? []).map((item) => `\t\t${item}`))
            return [name, items ? { value, items } : { value }] as const
          })
          return all.length === 0 ? { title } : { title, properties: Object.fromEntries(all) }
        })
        lines.push('')
        expected.push({ typenum: type, subsections: read })
      }
      for (const strict of [false, true]) {
        const parsed = parseDmi(lines.join('\n'), { strict }).sections
        const seen = parsed.map(({ typenum, subsections }) => ({ typenum, subsections }))
        assert.deepEqual(seen, expected)
      }
    }),
  )
})

test('DMI: no text makes it throw, and the strict reading throws nothing but a ZosError', () => {
  const line = fc.oneof(
    fc.constantFrom('Handle 1, DMI type 1', 'Handle', '#', '', '\t', '\tA: b', '\t\titem', 'Title'),
    fc.string(),
    fc.string({ unit: 'binary' }),
  )
  fc.assert(
    fc.property(fc.array(line), (lines) => {
      const text = lines.join('\n')
      const { sections } = parseDmi(text)
      const handles = text.split('\n').filter((one) => one.startsWith('Handle'))
      assert.ok(sections.length <= handles.length)
      try {
        assert.deepEqual(parseDmi(text, { strict: true }).sections, sections)
      } catch (error) {
        assert.equal((error as Error).name, 'ZosError')
      }
    }),
  )
})
