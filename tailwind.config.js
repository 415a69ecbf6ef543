/**
 * The tokens of the interface. Every colour a page uses is named here once for light and once for dark; the classes in
 * views/ know the names only. Contrast against the surfaces they stand on is at least 4.5:1 for text and 3:1 for the
 * edges of controls (WCAG 2.2, 1.4.3 and 1.4.11), in both themes; the browser tests measure it.
 */
const light = {
  canvas: '#f5f6f8', // behind everything
  surface: '#ffffff', // cards, fields
  sunken: '#eceef2', // hovered rows, quiet fills
  line: '#dfe2e8', // borders that only decorate
  edge: '#7f899a', // borders that show where a control is
  ink: '#10141c',
  muted: '#4d5769',
  accent: '#1f47cf', // links, focus, the current page
  'accent-fill': '#1f47cf', // the one primary action
  'accent-fill-hover': '#1839ab',
  'accent-soft': '#e8edfc',
  'on-fill': '#ffffff',
  good: '#0b6541',
  'good-soft': '#e2f4eb',
  warn: '#7d4b06',
  'warn-soft': '#fdf0d9',
  bad: '#b0201b',
  'bad-soft': '#fdeae8',
  'bad-fill': '#b0201b',
  'bad-fill-hover': '#8f1814',
}

const dark = {
  canvas: '#0c0f14',
  surface: '#14181f',
  sunken: '#1d222c',
  line: '#282e39',
  edge: '#717c8e',
  ink: '#f0f2f6',
  muted: '#a6b0c0',
  accent: '#93b1ff',
  'accent-fill': '#3a63ec',
  'accent-fill-hover': '#2f55d6',
  'accent-soft': '#1a2547',
  'on-fill': '#ffffff',
  good: '#63d6a4',
  'good-soft': '#11291f',
  warn: '#f1bd62',
  'warn-soft': '#2e2412',
  bad: '#ff958d',
  'bad-soft': '#351918',
  'bad-fill': '#c5352f',
  'bad-fill-hover': '#ab2a25',
}

const variables = (tokens) => Object.fromEntries(Object.entries(tokens).map(([name, value]) => [`--c-${name}`, value]))
const names = Object.fromEntries(Object.keys(light).map((name) => [name, `var(--c-${name})`]))

/** @type {import('tailwindcss').Config} */
export default {
  theme: {
    colors: { ...names, current: 'currentColor', transparent: 'transparent' },
    borderRadius: { none: '0', sm: '4px', DEFAULT: '6px', lg: '10px', full: '9999px' },
    fontSize: {
      xs: ['0.75rem', { lineHeight: '1rem' }],
      sm: ['0.8125rem', { lineHeight: '1.25rem' }],
      base: ['0.875rem', { lineHeight: '1.375rem' }],
      md: ['1rem', { lineHeight: '1.5rem' }],
      lg: ['1.125rem', { lineHeight: '1.625rem' }],
      xl: ['1.5rem', { lineHeight: '2rem', letterSpacing: '-0.015em' }],
      '2xl': ['2.25rem', { lineHeight: '2.75rem', letterSpacing: '-0.025em' }],
    },
    fontFamily: {
      sans: ['"Inter Variable"', 'ui-sans-serif', 'system-ui', 'sans-serif'],
      mono: ['ui-monospace', 'SFMono-Regular', 'Menlo', 'Consolas', 'monospace'],
    },
    boxShadow: {
      card: '0 1px 2px rgb(16 20 28 / 0.05)',
      pop: '0 8px 24px rgb(16 20 28 / 0.18)',
    },
    screens: { sm: '640px', md: '768px', lg: '1024px', xl: '1280px' },
  },
  plugins: [
    ({ addBase }) =>
      addBase({
        ':root': { ...variables(light), 'color-scheme': 'light dark' },
        '@media (prefers-color-scheme: dark)': { ':root': variables(dark) },
        // What the reader has chosen counts more than what the device prefers.
        ':root[data-theme="light"]': { ...variables(light), 'color-scheme': 'light' },
        ':root[data-theme="dark"]': { ...variables(dark), 'color-scheme': 'dark' },
      }),
  ],
}
