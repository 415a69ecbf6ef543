// Niceties on top of pages that work without them. Nothing here computes or decides anything about money.
;(() => {
  'use strict'

  const language = document.documentElement.lang
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

  document.addEventListener('input', (event) => {
    if (event.target.id) countText(event.target)
  })

  document.addEventListener('htmx:afterSettle', markFields)
  document.addEventListener('htmx:oobAfterSwap', markFields)
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

  markFields()
})()
