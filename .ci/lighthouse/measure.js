// Measures the pages of a running demo with Lighthouse, as a phone on a slow line and as a desktop, and ends with 1 where
// performance or best practices are under 95. BASE is the server's address.
import { launch } from 'chrome-launcher'
import { execFileSync } from 'node:child_process'
import lighthouse, { desktopConfig } from 'lighthouse'

const base = process.env.BASE ?? 'http://127.0.0.1:8080'
const least = 95

const cookies = (answer) => answer.headers.getSetCookie().map((c) => c.split(';')[0]).join('; ')

// signIn goes in as the demo's owner, by the form, and gives the cookie.
const signIn = async () => {
  const form = await fetch(`${base}/login`)
  const token = /name="csrf_token" value="([^"]+)"/.exec(await form.text())?.[1]
  const answer = await fetch(`${base}/login`, {
    method: 'POST',
    redirect: 'manual',
    headers: { cookie: cookies(form), origin: base },
    body: new URLSearchParams({ csrf_token: token, email: 'owner@harbour.example', password: 'ringfence-demo' }),
  })
  if (answer.status !== 303) throw new Error(`signing in was answered with ${answer.status}`)
  return cookies(answer)
}

const browser = () => {
  for (const name of ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable']) {
    try {
      return execFileSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim()
    } catch {
      continue // the next name
    }
  }
  throw new Error('no Chromium was found in PATH: run deploy/setup.sh test')
}

const cookie = await signIn()
const chrome = await launch({ chromePath: browser(), chromeFlags: ['--headless=new', '--no-sandbox', '--disable-gpu'] })
let poor = false
try {
  for (const path of ['/dashboard', '/wallet']) {
    for (const [device, config] of [['phone', undefined], ['desktop', desktopConfig]]) {
      const { lhr } = await lighthouse(
        base + path,
        { port: chrome.port, extraHeaders: { Cookie: cookie }, onlyCategories: ['performance', 'best-practices', 'accessibility'], logLevel: 'error', maxWaitForLoad: 20000 },
        config,
      )
      const score = (name) => Math.round((lhr.categories[name].score ?? 0) * 100)
      const shown = (name) => lhr.audits[name].displayValue?.replaceAll('\u00a0', ' ')
      const scores = ['performance', 'best-practices', 'accessibility'].map((name) => `${name} ${score(name)}`)
      console.log(
        `${path} ${device}: ${scores.join(', ')}; first paint ${shown('first-contentful-paint')}, largest ${shown('largest-contentful-paint')}, ` +
          `blocked ${shown('total-blocking-time')}, moved ${shown('cumulative-layout-shift')}, ${shown('total-byte-weight')}`,
      )
      if (lhr.runtimeError) console.log(`  ${lhr.runtimeError.message}`)
      for (const category of ['performance', 'best-practices']) {
        if (score(category) >= least) continue
        poor = true
        for (const { id } of lhr.categories[category].auditRefs) {
          const audit = lhr.audits[id]
          if (audit.score !== null && audit.score < 0.9) console.log(`  ${id}: ${audit.title} ${audit.displayValue ?? ''}`)
        }
      }
    }
  }
} finally {
  chrome.kill()
}
process.exit(poor ? 1 : 0)
