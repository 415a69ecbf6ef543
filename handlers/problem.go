package handlers

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/a-h/templ"

	"ringfence/internal/fault"
	"ringfence/views"
)

// answer is how a kind of failure is told over HTTP; code is its name for programs where the failure has none of its own.
type answer struct {
	status int
	title  string
	code   string
}

// answerTo is the only status table.
func answerTo(kind fault.Kind) answer {
	switch kind {
	case fault.Invalid:
		return answer{http.StatusUnprocessableEntity, "Something in the form is not right", "invalid"}
	case fault.Unauthenticated:
		return answer{http.StatusUnauthorized, "You are signed out", "unauthenticated"}
	case fault.Forbidden:
		return answer{http.StatusForbidden, "That is not allowed", "forbidden"}
	case fault.NotFound:
		return answer{http.StatusNotFound, "Not found", "not_found"}
	case fault.Conflict:
		return answer{http.StatusConflict, "Something else happened first", "conflict"}
	case fault.TooLarge:
		return answer{http.StatusRequestEntityTooLarge, "That is too much at once", "too_large"}
	case fault.TooMany:
		return answer{http.StatusTooManyRequests, "Too many requests", "too_many_requests"}
	case fault.Unavailable:
		return answer{http.StatusServiceUnavailable, "Not available right now", "unavailable"}
	case fault.Unpaid:
		return answer{http.StatusPaymentRequired, "There is not enough in the wallet", "insufficient_funds"}
	case fault.Malformed:
		return answer{http.StatusBadRequest, "That could not be read", "malformed"}
	case fault.Declined: // what the provider refuses, another try will not change
		return answer{http.StatusUnprocessableEntity, "This was refused", "declined"}
	case fault.Internal:
	}
	return answer{http.StatusInternalServerError, "That did not work", "internal"}
}

// fail answers a request that failed, in the form its sender reads, and logs what nobody else will.
func (a *app) fail(w http.ResponseWriter, r *http.Request, v *visit, err error) {
	f := told(err)
	to := answerTo(f.Kind)
	switch {
	case errors.Is(err, errMethod):
		f = fault.Wrap(fault.NotFound, "This address does not take "+methodName(r.Method)+" requests.", errMethod)
		to = answer{http.StatusMethodNotAllowed, "Not possible here", "method_not_allowed"}
	case f.Kind == fault.Invalid && v.is(Webhook): // Stripe's word for a bad signature, and what its dashboard explains
		to.status = http.StatusBadRequest
	}
	gone := r.Context().Err() != nil
	if to.status >= http.StatusInternalServerError {
		level, message := slog.LevelError, "request failed"
		if gone { // most likely because of that: it is no fault of ours then
			level, message = slog.LevelInfo, "request given up"
		}
		a.Log.LogAttrs(r.Context(), level, message, append(v.attrs(), slog.Int("status", to.status), slog.Any("error", err))...)
	}
	if v.wrote() { // too late for words; a cut connection is the only honest end
		panic(http.ErrAbortHandler)
	}
	if gone && !v.is(Webhook) {
		w.WriteHeader(statusGone)
		return
	}

	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if f.RetryAfter > 0 {
		h.Set("Retry-After", retryAfter(f))
	}
	switch {
	case wantsJSON(r, v):
		if to.status == http.StatusUnauthorized {
			h.Set("WWW-Authenticate", "Bearer")
		}
		a.problemJSON(w, v, to, f)
	case to.status == http.StatusUnauthorized && (v.is(Session) || v.is(Person) || v.is(Operator)):
		sendToLogin(w, r)
	case errors.Is(err, errNeedsFactor):
		leadTo(w, r, factorSettingsPath)
	default:
		a.problemPage(w, r, v, to, f)
	}
}

// awayRetry is when to ask again where the database is away.
const awayRetry = 10 * time.Second

// told is what is told of a failure. That no transaction could be begun is no fault to look for, but passes, and is told so;
// what a domain says of it itself goes before.
func told(err error) *fault.Error {
	if _, own := errors.AsType[*fault.Error](err); own {
		return fault.As(err)
	}
	var passing interface{ Unavailable() bool }
	if errors.As(err, &passing) && passing.Unavailable() {
		return &fault.Error{
			Kind: fault.Unavailable, RetryAfter: awayRetry, Cause: err,
			Public: "We cannot reach our records just now. Try again in a minute. Nothing was charged by this request unless your wallet shows it.",
		}
	}
	return fault.As(err)
}

// statusGone is for the log and the metrics only: the client closed the connection before there was an answer. nginx's
// number for it.
const statusGone = 499

// retryAfter is the header's value: whole seconds, rounded up.
func retryAfter(f *fault.Error) string {
	return strconv.FormatInt(int64((f.RetryAfter+time.Second-1)/time.Second), 10)
}

// wantsJSON reports whether the sender is a program. An EventSource reads neither, and only sees the status.
func wantsJSON(r *http.Request, v *visit) bool {
	accept := r.Header.Get("Accept")
	_, authorization := r.Header["Authorization"] // an empty one too
	return v.is(Webhook) || strings.HasPrefix(r.URL.Path, "/api/") || authorization ||
		!strings.Contains(accept, "text/html") &&
			(strings.Contains(accept, "application/json") || strings.Contains(accept, "application/problem+json") || strings.Contains(accept, "text/event-stream"))
}

// problemJSON answers as RFC 9457 has it. type is about:blank, so title says no more than the status does; code is a stable
// name of the reason, there always, and figures stand beside it as members of their own.
func (a *app) problemJSON(w http.ResponseWriter, v *visit, to answer, f *fault.Error) {
	problem := map[string]any{
		"type": "about:blank", "title": http.StatusText(to.status), "status": to.status, "detail": f.Public, "request_id": v.requestID,
	}
	for name, value := range f.Members {
		problem[name] = value
	}
	problem["code"] = cmp.Or(f.Code, to.code)
	if f.Field != "" {
		problem["field"] = f.Field
	}
	if f.Kind == fault.Unpaid {
		problem["top_up_url"] = a.BaseURL + "/wallet"
	}
	body, err := json.Marshal(problem)
	if err != nil {
		http.Error(w, http.StatusText(to.status), to.status)
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(to.status)
	_, _ = w.Write(body)
}

// sendToLogin sends a signed-out reader to sign in, and back afterwards. htmx ignores the headers of a redirect, so a
// fragment gets a 401 with an instruction instead.
func sendToLogin(w http.ResponseWriter, r *http.Request) {
	back := ""
	switch {
	case isFragment(r):
		if u, err := url.Parse(r.Header.Get("HX-Current-URL")); err == nil {
			back = u.RequestURI()
		}
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		back = r.URL.RequestURI()
	}
	to := "/login"
	if back = localPath(back); back != "" {
		to += "?next=" + url.QueryEscape(back)
	}
	if isFragment(r) {
		w.Header().Set("HX-Redirect", to)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// leadTo sends a reader to a page of ours that comes first.
func leadTo(w http.ResponseWriter, r *http.Request, path string) {
	if isFragment(r) {
		w.Header().Set("HX-Redirect", path)
		w.WriteHeader(http.StatusForbidden)
		return
	}
	http.Redirect(w, r, path, http.StatusSeeOther)
}

// problemPage answers a person: a whole page, or the notice alone for a fragment.
func (a *app) problemPage(w http.ResponseWriter, r *http.Request, v *visit, to answer, f *fault.Error) {
	// The page is drawn around who reads it; if that cannot be found out now, it is drawn for a stranger.
	if err := a.identify(r, v); err != nil {
		a.Log.LogAttrs(r.Context(), slog.LevelWarn, "couldn't tell who is signed in", append(v.attrs(), slog.Any("error", err))...)
	}
	m := a.problemModel(r, v, to, f)
	page := views.ErrorPage(m)
	if isFragment(r) {
		page = views.Problem(m)
	}
	if err := a.render(w, r, to.status, page); err != nil {
		a.Log.LogAttrs(r.Context(), slog.LevelError, "error page failed", append(v.attrs(), slog.Any("error", err))...)
		http.Error(w, "Something went wrong on our side.", http.StatusInternalServerError)
	}
}

// problemModel says what happened and what to do, with a way on that may help.
func (a *app) problemModel(r *http.Request, v *visit, to answer, f *fault.Error) views.ErrorPageModel {
	m := views.ErrorPageModel{
		Meta: a.meta(r, v, to.title), Status: to.status, Title: to.title, Sentence: f.Public, RequestID: v.requestID,
	}
	if errors.Is(f, errMethod) && r.Method == http.MethodGet { // the address of a form, opened by itself
		m.Sentence = "There is nothing to see at this address by itself. Go back to the page that you came from, or go on from the start."
	}
	back := localPath(refererPath(r))
	switch {
	case errors.Is(f, errStaleForm):
		m.Title, m.Meta.Title = "This page was too old", "This page was too old"
		if back != "" {
			m.ActionLabel, m.ActionHref = "Load the page again", back
		}
	case passes(to.status) && !isFragment(r): // a fragment's page is still there, with what was pressed
		if r.Method == http.MethodGet {
			back = localPath(r.URL.RequestURI())
		}
		if back != "" {
			m.ActionLabel, m.ActionHref = "Try again", back
			if r.Method != http.MethodGet {
				m.ActionLabel = "Back to the page"
			}
		}
	case f.Kind == fault.Unpaid:
		m.ActionLabel, m.ActionHref = "Top up", "/wallet"
	case v.signedIn && v.who.Role == "" && v.who.Operator:
		m.ActionLabel, m.ActionHref = "Go to operations", "/ops"
	}
	return m
}

// passes reports whether the same may work a little later.
func passes(status int) bool {
	return status >= http.StatusInternalServerError || status == http.StatusTooManyRequests
}

// rendered are the buffers that pages are rendered into; each is emptied before the next page.
var rendered = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// render answers with a page, or nothing at all: it is complete before the first byte goes out.
func (a *app) render(w http.ResponseWriter, r *http.Request, status int, page templ.Component) error {
	b, ok := rendered.Get().(*bytes.Buffer)
	if !ok {
		panic(fmt.Sprintf("the pool holds a %T", b)) // nothing else is put there
	}
	defer rendered.Put(b)
	b.Reset()
	if err := page.Render(r.Context(), b); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Add("Vary", "HX-Request")
	writePage(w, r, status, b.Bytes())
	return nil
}

// isFragment reports whether htmx wants a part of a page. When it restores its history it wants a whole one.
func isFragment(r *http.Request) bool {
	return r.Header.Get("HX-Request") == "true" && r.Header.Get("HX-Boosted") != "true" && r.Header.Get("HX-History-Restore-Request") != "true"
}

// methodName is a method fit to be shown.
func methodName(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "such"
}

// refererPath is the path of the page the request came from; empty when it is not told.
func refererPath(r *http.Request) string {
	u, err := url.Parse(r.Referer())
	if err != nil || u.Host != r.Host {
		return ""
	}
	return u.RequestURI()
}
