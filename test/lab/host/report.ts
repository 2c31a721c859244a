/** Turns what guests print into one TAP stream, and counts. */
export class Report {
  #passed = 0
  #failed = 0
  readonly #verbose: boolean

  /** @param verbose Whether everything a guest prints is shown, as comments. */
  constructor(verbose: boolean) {
    this.#verbose = verbose
  }

  /**
   * Listens to one guest: `line` takes each line of its console, `end` its last word. That it ran
   * all the tests it planned is a test of its own.
   */
  guest(name: string): { line(text: string): void; end(summary: string): void } {
    const seen: string[] = []
    let planned: number | undefined
    let results = 0
    let finished = false
    return {
      line: (text) => {
        seen.push(text)
        const [, not, what] = /^(not )?ok \d+ - (.*)/.exec(text) ?? []
        if (what !== undefined) {
          results++
          this.#result(not === undefined, `${name}: ${what}`)
        } else if (this.#verbose || /^( {2}|lab: (?!exit))/.test(text)) comment(`${name}: ${text}`)
        planned ??= /^1\.\.(\d+)$/.test(text) ? Number(text.slice(3)) : undefined
        finished ||= /^lab: exit [01]$/.test(text)
      },
      end: (summary) => {
        const whole = finished && results > 0 && planned === results
        if (!whole && !this.#verbose) for (const text of seen.slice(-40)) comment(text)
        this.#result(whole, `${name}: the guest ran all its ${planned ?? ''} tests (${summary})`)
      },
    }
  }

  /**
   * Prints the plan and the sum.
   *
   * @returns The exit status.
   */
  end(): number {
    print(`1..${this.#passed + this.#failed}`)
    print(`${this.#passed} passed, ${this.#failed} failed`)
    return this.#failed === 0 ? 0 : 1
  }

  #result(good: boolean, what: string): void {
    if (good) this.#passed++
    else this.#failed++
    print(`${good ? 'ok' : 'not ok'} ${this.#passed + this.#failed} - ${what}`)
  }
}

const comment = (text: string): void => print(`# ${text}`)

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}
