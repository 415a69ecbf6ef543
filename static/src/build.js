// Builds static/dist from static/src and the packages named in package.json. The same inputs give the same bytes.
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..')
const at = (...parts) => join(root, ...parts)
// Everything is made beside the old files and takes their place at the end, so that a build that fails changes nothing.
const dist = at('static', '.dist-new')

rmSync(dist, { recursive: true, force: true })
mkdirSync(dist, { recursive: true })

const copies = {
  [at('static', 'src', 'app.js')]: join(dist, 'app.js'),
  [at('static', 'src', 'zone.js')]: join(dist, 'zone.js'),
  [at('static', 'src', 'favicon.svg')]: join(dist, 'favicon.svg'),
  [at('node_modules', 'htmx.org', 'dist', 'htmx.min.js')]: join(dist, 'htmx.min.js'),
  [at('node_modules', '@fontsource-variable', 'inter', 'files', 'inter-latin-wght-normal.woff2')]: join(dist, 'inter.woff2'),
  // For the browser tests only; it is not served.
  [at('node_modules', 'axe-core', 'axe.min.js')]: at('internal', 'browsertest', 'axe.min.js'),
}
for (const [from, to] of Object.entries(copies)) {
  mkdirSync(dirname(to), { recursive: true })
  copyFileSync(from, to)
}

// The minified build of the extension names a source map that is not served; a browser's tools would ask for it.
const sse = readFileSync(at('node_modules', 'htmx-ext-sse', 'dist', 'sse.min.js'), 'utf8')
writeFileSync(join(dist, 'sse.js'), sse.replace(/\n?\/\/# sourceMappingURL=.*\s*$/, '\n'))

// What others wrote goes out with their terms.
const licences = [
  ['htmx.org', 'LICENSE'],
  ['htmx-ext-sse', 'LICENSE'],
  ['@fontsource-variable/inter', 'LICENSE'],
]
writeFileSync(
  join(dist, 'LICENSES.txt'),
  licences.map(([name, file]) => `${name}\n\n${readFileSync(at('node_modules', name, file), 'utf8').trim()}\n`).join('\n---\n\n'),
)

execFileSync(
  process.execPath,
  [at('node_modules', '@tailwindcss', 'cli', 'dist', 'index.mjs'), '-i', at('static', 'src', 'app.css'), '-o', join(dist, 'app.css'), '--minify'],
  { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] },
)

rmSync(at('static', 'dist'), { recursive: true, force: true })
renameSync(dist, at('static', 'dist'))
