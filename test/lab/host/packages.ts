import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { command } from './command.ts'

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'

/** Folders that are links into /usr on today's Debian, and were not when some packages were made. */
const MERGED = ['bin', 'sbin', 'lib', 'lib64']

/** What "dpkg -x" does, except that it would put folders in the place of those links. */
const UNPACK =
  'dpkg-deb --fsys-tarfile "$0" | tar -x -C "$1" --keep-directory-symlink --no-same-owner'

/**
 * A package index of some Debian suites in a folder of its own, which knows of no installed
 * package: what it fetches is complete, and nothing on this machine changes.
 */
export class PackageIndex {
  readonly #archives: string
  readonly #env: NodeJS.ProcessEnv

  /** @param suites Names such as `bookworm-backports`; the last is preferred. */
  constructor(folder: string, suites: readonly string[]) {
    for (const part of ['state/lists/partial', 'cache/archives/partial', 'none']) {
      mkdirSync(join(folder, part), { recursive: true })
    }
    const config = join(folder, 'apt.conf')
    writeFileSync(join(folder, 'status'), '')
    writeFileSync(join(folder, 'sources.list'), sources(suites))
    writeFileSync(config, settings(folder, suites.at(-1) as string))
    this.#archives = join(folder, 'cache/archives')
    this.#env = { ...process.env, APT_CONFIG: config }
    this.#apt('apt-get', 'update')
  }

  /** Names that a package depends on. */
  dependencies(name: string): readonly string[] {
    const text = this.#apt('apt-cache', 'depends', name)
    return [...text.matchAll(/^ *Depends: (\S+)/gm)].map(([, dependency]) => dependency as string)
  }

  /**
   * Fetches packages and unpacks them below `root`.
   *
   * @param whole With everything they depend on.
   * @param alone Without.
   */
  unpack(root: string, whole: readonly string[], alone: readonly string[]): void {
    this.#apt('apt-get', 'install', '--download-only', '--no-install-recommends', ...whole)
    if (alone.length > 0) this.#apt('apt-get', 'download', ...alone)
    for (const folder of MERGED) {
      mkdirSync(join(root, 'usr', folder), { recursive: true })
      symlinkSync(join('usr', folder), join(root, folder))
    }
    for (const name of readdirSync(this.#archives)) {
      if (name.endsWith('.deb')) command('sh', ['-c', UNPACK, join(this.#archives, name), root])
    }
  }

  #apt(program: string, ...args: readonly string[]): string {
    // "download" leaves its files in the current folder.
    return command(program, ['-qq', ...args], { env: this.#env, cwd: this.#archives })
  }
}

function sources(suites: readonly string[]): string {
  return suites.map((suite) => `deb [signed-by=${KEYRING}] ${mirror()} ${suite} main\n`).join('')
}

function settings(folder: string, preferred: string): string {
  const values = {
    'Dir::State': join(folder, 'state'),
    'Dir::State::status': join(folder, 'status'),
    'Dir::Cache': join(folder, 'cache'),
    'Dir::Etc::sourcelist': join(folder, 'sources.list'),
    'Dir::Etc::sourceparts': join(folder, 'none'),
    'Dir::Etc::preferencesparts': join(folder, 'none'),
    'APT::Default-Release': preferred,
    'APT::Get::Assume-Yes': 'true',
    // The user that apt would rather be cannot write here.
    'APT::Sandbox::User': 'root',
    'Acquire::Languages': 'none',
  }
  const lines = Object.entries(values).map(([key, value]) => `${key} "${value}";\n`)
  return lines.join('')
}

/** The Debian mirror that this machine uses; undefined where it is no Debian. */
export function mirror(): string | undefined {
  if (!readFileSync('/etc/os-release', 'utf8').includes('\nID=debian\n')) return undefined
  for (const file of ['/etc/apt/sources.list.d/debian.sources', '/etc/apt/sources.list']) {
    try {
      const found = /^(?:URIs:|deb(?: \[.*?\])?) *(\S+)/m.exec(readFileSync(file, 'utf8'))?.[1]
      if (found !== undefined) return found
    } catch {
      // It is in the other place.
    }
  }
  return undefined
}
