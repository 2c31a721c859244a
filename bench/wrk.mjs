// wrk as a function.
import { spawn } from 'node:child_process'
import { pinned } from './server.mjs'

const UNIT_MS = { us: 0.001, ms: 1, s: 1000 }

/**
 * Loads a URL over 32 connections that stay open.
 *
 * @param {{ script?: string }} options `script`: a file of wrk's own, such as post.lua.
 * @returns {Promise<{ requests: number, perSecond: number, p99Ms: number }>}
 * @throws {Error} When wrk fails, a connection breaks or an answer is not of the 200s or 300s.
 */
export function wrk(url, seconds, { script } = {}) {
  const scripted = script === undefined ? [] : ['-s', script]
  const args = ['-t1', '-c32', `-d${seconds}s`, '--latency', ...scripted, url]
  const [command, commandArgs] = pinned(1, 'wrk', args)
  return new Promise((done, failed) => {
    const child = spawn(command, commandArgs, { stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (data) => {
        output += data
      })
    }
    child.once('error', failed)
    child.once('close', (status) => {
      try {
        if (status !== 0) throw new Error(`wrk ended with ${status}`)
        done(readWrk(output))
      } catch (error) {
        failed(new Error(`Cannot measure ${url}: ${error.message}\n${output}`))
      }
    })
  })
}

/** Reads what wrk 4 prints with `--latency`. */
export function readWrk(output) {
  const trouble = /Non-2xx.*|Socket errors: connect [1-9].*|Socket errors:.*read [1-9].*/.exec(
    output,
  )
  if (trouble) throw new Error(trouble[0])
  const requests = Number(/(\d+) requests in/.exec(output)?.[1])
  const perSecond = Number(/Requests\/sec:\s+([\d.]+)/.exec(output)?.[1])
  const [, p99, unit] = /99%\s+([\d.]+)(us|ms|s)/.exec(output) ?? []
  if (!(requests > 0 && perSecond > 0 && p99)) throw new Error('no figures in what wrk printed')
  return { requests, perSecond, p99Ms: Number(p99) * UNIT_MS[unit] }
}
