// Niceties on top of pages that work without them. Nothing here computes or decides anything about money.
;(() => {
  'use strict'

  const language = document.documentElement.lang
  const date = new Intl.DateTimeFormat(language, { day: 'numeric', month: 'short', year: 'numeric' })
  const clock = new Intl.DateTimeFormat(language, { hour: '2-digit', minute: '2-digit' })

  // Times are sent in UTC; the reader sees their own zone, and UTC on pointing.
  const localise = (root) => {
    for (const el of root.querySelectorAll('time[data-local]')) {
      const at = new Date(el.dateTime)
      if (Number.isNaN(at.getTime())) continue
      if (el.title) continue
      el.title = el.textContent.trim().replace(/\s+/g, ' ')
      el.querySelector('[data-date]').textContent = date.format(at)
      el.querySelector('[data-time]').textContent = clock.format(at)
    }
  }

  // A message that was swapped in beside a field marks that field, and its going unmarks it.
  const markFields = () => {
    for (const error of document.querySelectorAll('.field-error[data-for]')) {
      const input = document.getElementById(error.dataset.for)
      if (!input) continue
      if (error.textContent.trim()) input.setAttribute('aria-invalid', 'true')
      else input.removeAttribute('aria-invalid')
    }
  }

  const show = (id, visible) => {
    const el = document.getElementById(id)
    if (el) el.hidden = !visible
  }

  const unreachable = () => {
    const problem = document.getElementById('problem')
    const words = document.getElementById('problem-unreachable')
    if (problem && words) problem.replaceChildren(words.content.cloneNode(true))
  }

  // How long a text is of what it may be, in characters as the server counts them. What is too long is said, never cut.
  const countText = (input) => {
    const el = document.querySelector(`[data-counts="${CSS.escape(input.id)}"]`)
    if (!el) return
    const length = [...input.value].length
    const most = Number(el.dataset.most)
    const figure = (n) => n.toLocaleString(language)
    el.textContent = `${figure(length)} of ${figure(most)} characters${length > most ? `, ${figure(length - most)} too many` : ''}`
    el.classList.toggle('text-bad', length > most)
    el.classList.toggle('text-muted', length <= most)
  }

  const settled = () => {
    localise(document)
    markFields()
  }

  document.addEventListener('input', (event) => {
    if (event.target.id) countText(event.target)
  })

  document.addEventListener('htmx:afterSettle', settled)
  document.addEventListener('htmx:oobAfterSwap', settled)
  document.addEventListener('htmx:sendError', unreachable)
  document.addEventListener('htmx:timeout', unreachable)
  document.addEventListener('htmx:sseOpen', () => show('live-lost', false))
  document.addEventListener('htmx:sseError', () => show('live-lost', true))

  // Where a live part takes away what had the focus, the part itself takes it: the next Tab goes on from there.
  let held = false
  document.addEventListener('htmx:sseBeforeMessage', (event) => {
    held = event.target !== document.activeElement && event.target.contains(document.activeElement)
  })
  document.addEventListener('htmx:sseMessage', (event) => {
    if (held && !event.target.contains(document.activeElement)) event.target.focus({ preventScroll: true })
  })

  // A new request answers the last problem: its message has served.
  document.addEventListener('htmx:beforeRequest', (event) => {
    if (event.target.matches?.('form')) document.getElementById('problem')?.replaceChildren()
  })

  settled()
})()
