import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'

/** Milliseconds the light is on and off (spec §21.1). */
const PULSE_MS = 200

/** Milliseconds of one request (spec §21.1). */
const DURATION_MS = 15_000

/** Which light, and its pattern. */
export interface LedOptions {
  /** `/sys/class/leds/led0/brightness` in balena's own supervisor. */
  readonly file: string
  readonly pulseMs?: number | undefined
  readonly durationMs?: number | undefined
}

/** A light of the machine that blinks so that somebody finds it. */
export class Led {
  readonly #file: string
  readonly #pulseMs: number
  readonly #durationMs: number
  /** Monotonic milliseconds at which it stops. */
  #until = 0
  #blinking: Promise<void> | undefined

  constructor({ file, pulseMs = PULSE_MS, durationMs = DURATION_MS }: LedOptions) {
    this.#file = file
    this.#pulseMs = pulseMs
    this.#durationMs = durationMs
  }

  /**
   * Starts the pattern, or lets a running one go on for longer. Resolves at its end and never
   * rejects: a machine without this light shows nothing.
   */
  blink(): Promise<void> {
    this.#until = performance.now() + this.#durationMs
    this.#blinking ??= this.#run().finally(() => {
      this.#blinking = undefined
    })
    return this.#blinking
  }

  /** Ends the pattern; resolves once the light is off. */
  async stop(): Promise<void> {
    this.#until = 0
    await this.#blinking
  }

  async #run(): Promise<void> {
    let file: FileHandle | undefined
    try {
      // Never made where it is missing; a FIFO that nobody reads does not block.
      file = await open(this.#file, constants.O_WRONLY | constants.O_NONBLOCK)
      while (performance.now() < this.#until) {
        await file.write('1')
        await sleep(this.#pulseMs)
        await file.write('0')
        await sleep(this.#pulseMs)
      }
    } catch {
      // No light, or not ours to switch.
    } finally {
      await file?.close().catch(() => undefined)
    }
  }
}
