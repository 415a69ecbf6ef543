// Times are sent in UTC; the reader sees their own zone, and UTC on pointing. This runs while the page is being read and
// whenever a part of it is swapped in, before either is painted, so that nothing jumps.
;(() => {
  'use strict'

  const language = document.documentElement.lang
  const date = new Intl.DateTimeFormat(language, { day: 'numeric', month: 'short', year: 'numeric' })
  const clock = new Intl.DateTimeFormat(language, { hour: '2-digit', minute: '2-digit' })

  const waiting = new Set()

  // While the page is being read, an element is whole once something stands after it.
  const whole = (el) => {
    if (document.readyState !== 'loading') return true
    for (let at = el; at; at = at.parentNode) if (at.nextSibling) return true
    return false
  }

  const localise = (el) => {
    const at = new Date(el.dateTime)
    const day = el.querySelector('[data-date]')
    const time = el.querySelector('[data-time]')
    if (el.title || !day || !time || Number.isNaN(at.getTime())) return
    el.title = el.textContent.trim().replace(/\s+/g, ' ')
    day.textContent = date.format(at)
    time.textContent = clock.format(at)
  }

  const settle = () => {
    for (const el of waiting) {
      if (!whole(el)) continue
      waiting.delete(el)
      localise(el)
    }
  }

  new MutationObserver((records) => {
    for (const record of records) {
      for (const node of record.addedNodes) {
        if (node.nodeType !== Node.ELEMENT_NODE) continue
        if (node.matches('time[data-local]')) waiting.add(node)
        for (const el of node.querySelectorAll('time[data-local]')) waiting.add(el)
      }
    }
    settle()
  }).observe(document, { childList: true, subtree: true })

  document.addEventListener('DOMContentLoaded', settle)
})()
