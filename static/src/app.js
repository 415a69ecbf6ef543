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

  const say = (words) => {
    const said = document.getElementById('said')
    if (said) said.textContent = words
  }

  const take = (el) => {
    if (!el) return
    if (el.tabIndex < 0) el.tabIndex = -1
    el.focus()
  }

  // What is wrong takes the focus: the first field that is, else the message about the whole, which is scrolled to by that.
  const wrong = (within) => {
    const marked = within.querySelector('[aria-invalid="true"]')
    const field = marked?.matches('fieldset') ? marked.querySelector('input:not([type="hidden"]), select, textarea') : marked
    return field ?? [...within.querySelectorAll('[role="alert"]')].find((el) => el.textContent.trim())
  }

  const unreachable = (event) => {
    if (event?.detail?.requestConfig && quiet(event)) return paused(true)
    const problem = document.getElementById('problem')
    const words = document.getElementById('problem-unreachable')
    if (!problem || !words) return
    problem.replaceChildren(words.content.cloneNode(true))
    if (byHand(event)) take(problem)
  }

  // Whether somebody waits for the answer, which a page that asks by itself has nobody for.
  const byHand = (event) => ['submit', 'click'].includes(event?.detail?.requestConfig?.triggeringEvent?.type)

  // A form that spends or changes something is under way once, however often its button is pressed. Its button says so, and to
  // readers as well where it takes long.
  const slow = 700
  const lost = 30000
  const underWay = new Map()

  const settleForm = (form) => {
    const at = underWay.get(form)
    if (!at) return
    underWay.delete(form)
    at.timers.forEach(clearTimeout)
    at.button?.removeAttribute('aria-busy')
    say('')
  }

  document.addEventListener(
    'submit',
    (event) => {
      const form = event.target
      if (form.method !== 'post') return
      if (underWay.has(form)) {
        event.preventDefault()
        event.stopImmediatePropagation()
        return
      }
      const button = event.submitter ?? form.querySelector('button[type="submit"]')
      const words = button?.querySelector('.while-busy')?.textContent.trim() || 'Working…'
      button?.setAttribute('aria-busy', 'true')
      underWay.set(form, { button, timers: [setTimeout(() => say(words), slow), setTimeout(() => settleForm(form), lost)] })
    },
    true,
  )
  document.addEventListener('htmx:afterRequest', (event) => {
    // An answer that leads elsewhere keeps its button under way until the other page is there.
    if (event.detail.xhr?.getResponseHeader('HX-Redirect')) return
    settleForm(event.target)
    for (const form of [...underWay.keys()]) if (!form.isConnected) settleForm(form)
  })
  document.addEventListener('htmx:abort', (event) => settleForm(event.target))
  // Whoever comes back finds the page as it was kept, with its buttons under way.
  window.addEventListener('pageshow', (event) => {
    if (event.persisted) [...underWay.keys()].forEach(settleForm)
  })

  // Menus and questions that lie over the page close with Escape and by a click elsewhere; the focus goes back to what opened them.
  const closePop = (pop) => {
    const within = pop.contains(document.activeElement)
    pop.open = false
    if (within) pop.querySelector('summary')?.focus()
  }
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return
    const pop = document.activeElement?.closest('details[data-pop][open]') ?? document.querySelector('details[data-pop][open]')
    if (pop) closePop(pop)
  })
  document.addEventListener('click', (event) => {
    const closer = event.target.closest?.('[data-close]')
    if (closer) closePop(closer.closest('details'))
    for (const pop of document.querySelectorAll('details[data-pop][open]')) if (!pop.contains(event.target)) pop.open = false
  })

  document.addEventListener('click', (event) => {
    const button = event.target.closest?.('[data-copy]')
    if (!button) return
    const copying = navigator.clipboard?.writeText(button.dataset.copy) ?? Promise.reject(new Error('no clipboard'))
    copying.then(
      () => {
        button.classList.add('copied')
        say('Copied')
        setTimeout(() => {
          button.classList.remove('copied')
          say('')
        }, 2000)
      },
      () => say('Your browser does not let us copy. Mark the text and copy it by hand.'),
    )
  })

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

  document.addEventListener('htmx:afterSettle', (event) => {
    markFields()
    const status = event.detail.xhr?.status
    if (status === 422 && byHand(event)) take(wrong(event.detail.target.isConnected ? event.detail.target : document))
    else if (status >= 400 && byHand(event)) take(document.getElementById('problem'))
  })
  document.addEventListener('htmx:oobAfterSwap', markFields)

  // What a page asks by itself disturbs nobody: its words are read out once, where they changed, and whoever was in the part goes on
  // from there. Without an answer the page says so once, quietly, until there is one again.
  const words = (el) => {
    const copy = el.cloneNode(true)
    copy.querySelectorAll('time, [hidden], noscript').forEach((at) => at.remove())
    const texts = document.createTreeWalker(copy, NodeFilter.SHOW_TEXT)
    let all = ''
    while (texts.nextNode()) all += ' ' + texts.currentNode.data // what stands apart is read apart
    return all.trim().replace(/\s+/g, ' ')
  }
  const saying = () => [...document.querySelectorAll('[data-says][id]')]
  const quiet = (event) => !byHand(event) && !event.detail.requestConfig?.triggeringEvent?.type?.match(/^(input|change)$/)
  const paused = (on) => show(document.getElementById('live-lost') ? 'live-lost' : 'paused', on)
  let before = null
  let held = null
  document.addEventListener('htmx:beforeSwap', (event) => {
    before = null
    if (!quiet(event)) return
    const failed = event.detail.xhr.status >= 400
    if (failed) event.detail.shouldSwap = false
    paused(failed)
    if (failed) return
    before = new Map(saying().map((el) => [el.id, words(el)]))
    const within = event.detail.target
    held = within !== document.activeElement && within.contains(document.activeElement) ? within : null
  })
  document.addEventListener('htmx:afterSettle', (event) => {
    if (!before || !quiet(event)) return
    const changed = saying().filter((el) => before.has(el.id) && before.get(el.id) !== words(el))
    before = null
    if (changed.length) say(changed.map((el) => (el.dataset.says ? `${el.dataset.says}: ` : '') + words(el)).join('. '))
    if (held?.isConnected && document.activeElement === document.body) {
      if (held.tabIndex < 0) held.tabIndex = -1
      held.focus({ preventScroll: true })
    }
    held = null
  })
  // A region that says the same as before is left alone, or it would be read out again.
  document.addEventListener('htmx:oobBeforeSwap', (event) => {
    const { target, fragment } = event.detail
    if (target.matches('[role="status"]') && fragment && words(fragment) === words(target)) event.detail.shouldSwap = false
  })
  document.addEventListener('htmx:sendError', unreachable)
  document.addEventListener('htmx:timeout', unreachable)
  document.addEventListener('htmx:sseOpen', () => show('live-lost', false))
  document.addEventListener('htmx:sseError', () => show('live-lost', true))
  window.addEventListener('offline', () => (document.getElementById('live-lost') ? show('live-lost', true) : unreachable()))
  window.addEventListener('online', () => document.getElementById('live-lost') || document.getElementById('problem')?.replaceChildren())

  // Where a live part takes away what had the focus, the part itself takes it: the next Tab goes on from there.
  let heldByStream = false
  document.addEventListener('htmx:sseBeforeMessage', (event) => {
    heldByStream = event.target !== document.activeElement && event.target.contains(document.activeElement)
  })
  document.addEventListener('htmx:sseMessage', (event) => {
    if (heldByStream && !event.target.contains(document.activeElement)) event.target.focus({ preventScroll: true })
  })

  // A new request answers the last problem: its message has served.
  document.addEventListener('htmx:beforeRequest', (event) => {
    if (event.target.matches?.('form')) document.getElementById('problem')?.replaceChildren()
  })

  markFields()
  // A page that comes back with something wrong, or with what was done, begins there.
  if (document.activeElement === document.body && !location.hash) take(wrong(document.getElementById('main') ?? document))
})()
