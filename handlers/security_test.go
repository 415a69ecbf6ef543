package handlers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/handlers"
	"ringfence/internal/audit"
	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/internal/knowledge"
	"ringfence/internal/payments"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
	"ringfence/internal/webhooks"
)

// The callers of the matrix, in the order of its columns. All that is asked for belongs to Harbour Dental.
const (
	stranger = iota // signed out
	viewer          // of Harbour Dental, as member and owner
	member
	owner
	platform // an operator, in no organisation
	outsider // the owner of another organisation
	program  // an API key of Harbour Dental with every scope
	callers
)

var callerNames = [callers]string{"signed out", "viewer", "member", "owner", "operator", "another organisation's owner", "API key"}

var callerEmails = [callers]string{
	viewer: "viewer@harbour.example", member: "member@harbour.example", owner: "owner@harbour.example",
	platform: operator, outsider: "owner@second.example",
}

// rule is what one route answers to each caller who asks for it properly: signed in, from our own page, with its token.
type rule struct {
	status [callers]int
	form   url.Values // what is sent; {org} is Harbour Dental's id
	// id is the row of Harbour Dental that stands for the pattern's wildcard, in table; a table that no tenant may read at all
	// is not named.
	id, table string
	// counts says that a refusal is written down, as the limits of guesses need.
	counts bool
	// ready brings about what the route needs, before its turn; nil where it needs nothing.
	ready func()
	// nobodys says that what an operator does there belongs to no organisation.
	nobodys bool
	// opens is the name of the organisation that it makes, whose the audit row is then.
	opens string
	// again puts back what a caller may have taken away, so that the next one finds it too; nil where nobody does.
	again func()
}

// matrix is who may do what, route by route. A new route is added here by hand, so that somebody thinks about each caller;
// a form that is sent incomplete on purpose is 422 for whom the route lets in. The columns are the callers above, in order.
func matrix(f fixture) map[string]rule {
	pages := func(status ...int) rule { return rule{status: [callers]int(status)} }
	public, person := pages(200, 200, 200, 200, 200, 200, 200), pages(303, 200, 200, 200, 200, 200, 403)
	bad := url.Values{"code": {"000000"}}
	return map[string]rule{
		"GET /{$}":                 pages(303, 303, 303, 303, 303, 303, 303),
		"GET /login":               pages(200, 303, 303, 303, 303, 303, 303),
		"POST /login":              {status: [callers]int{401, 401, 401, 401, 401, 401, 403}, form: url.Values{"email": {"x@x.example"}, "password": {"x"}}, counts: true},
		"GET /login/second-factor": pages(303, 303, 303, 303, 303, 303, 303),
		"POST /login/second-factor": {
			status: [callers]int{303, 303, 303, 303, 303, 303, 403}, form: bad, // nobody's sign-in waits for a code
		},
		"GET /signup":  pages(200, 303, 303, 303, 303, 303, 303),
		"POST /signup": {status: [callers]int{422, 422, 422, 422, 422, 422, 403}, counts: true},
		"POST /logout": pages(303, 303, 303, 303, 303, 303, 403),

		"GET /invitation":      pages(404, 404, 404, 404, 404, 404, 404), // without its token
		"POST /invitation":     pages(404, 404, 404, 404, 404, 404, 403),
		"GET /password/forgot": public,
		"POST /password/forgot": {
			status: [callers]int{303, 303, 303, 303, 303, 303, 403}, form: url.Values{"email": {"nobody@else.example"}}, counts: true,
		},
		"GET /password/reset":  pages(404, 404, 404, 404, 404, 404, 404), // without its token
		"POST /password/reset": pages(404, 404, 404, 404, 404, 404, 403),

		"GET /dashboard":                pages(303, 200, 200, 200, 303, 200, 403),
		"GET /wallet":                   pages(303, 200, 200, 200, 403, 200, 403),
		"GET /wallet/stream":            pages(303, 200, 200, 200, 403, 200, 403),
		"GET /wallet/transactions":      pages(303, 200, 200, 200, 403, 200, 403),
		"GET /wallet/transactions.csv":  pages(303, 200, 200, 200, 403, 200, 403),
		"GET /wallet/transactions/{id}": {status: [callers]int{303, 200, 200, 200, 403, 404, 403}, id: f.transaction.String(), table: "ledger_transactions"},
		"POST /wallet/quote": {
			status: [callers]int{303, 403, 200, 200, 403, 200, 403}, form: url.Values{"amount": {"50"}, "currency": {"gbp"}},
		},
		"POST /wallet/top-ups": {
			status: [callers]int{303, 403, 303, 303, 403, 303, 403}, form: url.Values{"amount": {"60"}, "currency": {"gbp"}},
		},
		"GET /wallet/top-ups/{id}": {status: [callers]int{303, 200, 200, 200, 403, 404, 403}, id: f.topUp, table: "top_ups"},
		"GET /wallet/top-ups/{id}/invoice": { // back to the top-up, since Stripe does not know the fixture's payment
			status: [callers]int{303, 303, 303, 303, 403, 404, 403}, id: f.topUp, table: "top_ups",
		},
		"GET /wallet/prices":  pages(303, 200, 200, 200, 403, 200, 403),
		"GET /wallet/limits":  pages(303, 200, 200, 200, 403, 200, 403),
		"POST /wallet/limits": {status: [callers]int{303, 403, 403, 303, 403, 303, 403}, form: url.Values{"all": {"1000"}}},

		"GET /notices":           pages(303, 200, 200, 200, 403, 200, 403),
		"GET /settings/notices":  pages(303, 200, 200, 200, 403, 200, 403),
		"POST /settings/notices": {status: [callers]int{303, 303, 303, 303, 403, 303, 403}, form: url.Values{"mark": {"5.00"}, "mail": {"low_balance"}}},

		"GET /settings/privacy":  pages(303, 200, 200, 200, 403, 200, 403),
		"POST /settings/privacy": {status: [callers]int{303, 403, 403, 303, 403, 303, 403}, form: url.Values{"days": {"90"}}},
		"POST /settings/privacy/erase": {
			status: [callers]int{303, 403, 403, 200, 403, 200, 403}, form: url.Values{"number": {"+447400123888"}, "confirm": {"yes"}},
		},

		"GET /wallet/auto-top-up":             pages(303, 200, 200, 200, 403, 200, 403),
		"POST /wallet/auto-top-up":            {status: [callers]int{303, 403, 403, 303, 403, 409, 403}, form: allowed()}, // the other one has no card
		"POST /wallet/auto-top-up/quote":      {status: [callers]int{303, 403, 403, 200, 403, 200, 403}, form: allowed()},
		"POST /wallet/auto-top-up/off":        pages(303, 403, 403, 303, 403, 303, 403),
		"POST /wallet/auto-top-up/card":       pages(303, 403, 403, 303, 403, 303, 403),
		"GET /wallet/auto-top-up/card/remove": {status: [callers]int{303, 403, 403, 200, 403, 404, 403}, again: f.keepCard},
		"POST /wallet/auto-top-up/card/remove": {
			status: [callers]int{303, 403, 403, 303, 403, 404, 403}, again: f.keepCard,
		},

		"GET /numbers":     pages(303, 200, 200, 200, 403, 200, 403),
		"POST /numbers":    pages(303, 403, 422, 422, 403, 422, 403), // without a number
		"GET /numbers/buy": pages(303, 403, 404, 404, 403, 404, 403), // the same
		"GET /numbers/{id}": {
			status: [callers]int{303, 200, 200, 200, 403, 404, 403}, id: numberID, table: "numbers", again: f.keepNumber,
		},
		"GET /numbers/{id}/release": {
			status: [callers]int{303, 403, 200, 200, 403, 404, 403}, id: numberID, table: "numbers", again: f.keepNumber,
		},
		"POST /numbers/{id}/release": {
			status: [callers]int{303, 403, 303, 303, 403, 404, 403}, id: numberID, table: "numbers", form: url.Values{"confirm": {"3456"}}, again: f.keepNumber,
		},
		"GET /credentials":         pages(303, 200, 200, 200, 403, 200, 403),
		"POST /credentials":        pages(303, 403, 403, 422, 403, 422, 403), // with nothing in it
		"POST /credentials/test":   pages(303, 403, 403, 303, 403, 409, 403), // the other one has none
		"POST /credentials/mode":   {status: [callers]int{303, 403, 403, 303, 403, 303, 403}, form: url.Values{"mode": {"managed"}}},
		"GET /credentials/remove":  pages(303, 403, 403, 200, 403, 200, 403),
		"POST /credentials/remove": {status: [callers]int{303, 403, 403, 409, 403, 303, 403}, again: f.keepNumber}, // a number needs it

		"GET /caller-ids":  pages(303, 200, 200, 200, 403, 200, 403),
		"POST /caller-ids": {status: [callers]int{303, 403, 409, 409, 403, 409, 403}, form: url.Values{"phone_number": {"+447400123998"}}}, // no account to prove it to
		"GET /caller-ids/{id}": {
			status: [callers]int{303, 200, 200, 200, 403, 404, 403}, id: callerID, table: "caller_ids", again: f.keepNumber,
		},
		"GET /caller-ids/{id}/remove": {
			status: [callers]int{303, 403, 200, 200, 403, 404, 403}, id: callerID, table: "caller_ids", again: f.keepNumber,
		},
		"POST /caller-ids/{id}/remove": {
			status: [callers]int{303, 403, 303, 303, 403, 404, 403}, id: callerID, table: "caller_ids", again: f.keepNumber,
		},

		"GET /agents":      pages(303, 200, 200, 200, 403, 200, 403),
		"POST /agents":     {status: [callers]int{303, 403, 303, 303, 403, 303, 403}, form: agentValues("key", uuid.NewString())},
		"GET /agents/new":  pages(303, 403, 200, 200, 403, 200, 403),
		"GET /agents/{id}": {status: [callers]int{303, 200, 200, 200, 403, 404, 403}, id: agentID, table: "agents", again: f.keepNumber},
		"POST /agents/{id}": {
			status: [callers]int{303, 403, 303, 303, 403, 404, 403}, id: agentID, table: "agents", form: agentValues(), again: f.keepNumber,
		},
		"POST /agents/{id}/link": {
			status: [callers]int{303, 403, 303, 303, 403, 404, 403}, id: agentID, table: "agents", form: url.Values{"number": {numberID}}, again: f.keepNumber,
		},
		"POST /agents/{id}/unlink": {status: [callers]int{303, 403, 303, 303, 403, 404, 403}, id: agentID, table: "agents", again: f.keepNumber},
		"POST /agents/{id}/call": { // nobody was told about it yet
			status: [callers]int{303, 403, 409, 409, 403, 404, 403}, id: agentID, table: "agents", again: f.keepNumber,
			form: url.Values{"to": {"+447400123456"}, "key": {uuid.NewString()}},
		},
		"POST /agents/{id}/call/quote": {
			status: [callers]int{303, 403, 200, 200, 403, 404, 403}, id: agentID, table: "agents", form: url.Values{"to": {"+447400123456"}}, again: f.keepNumber,
		},
		"GET /agents/{id}/delete": {status: [callers]int{303, 403, 200, 200, 403, 404, 403}, id: agentID, table: "agents", again: f.keepNumber},
		"POST /agents/{id}/delete": {
			status: [callers]int{303, 403, 303, 303, 403, 404, 403}, id: agentID, table: "agents", form: url.Values{"then": {"keep"}}, again: f.keepNumber,
		},

		"GET /calls":        pages(303, 200, 200, 200, 403, 200, 403),
		"POST /calls":       {status: [callers]int{303, 403, 409, 409, 403, 422, 403}, form: url.Values{"agent": {agentID}, "to": {"+447400123456"}, "key": {uuid.NewString()}}}, // nobody was told about it yet
		"POST /calls/quote": {status: [callers]int{303, 403, 200, 200, 403, 200, 403}, form: url.Values{"to": {"+447400123456"}}},
		"GET /calls/{id}":   {status: [callers]int{303, 200, 200, 200, 403, 404, 403}, id: callID, table: "calls"},
		"POST /calls/{id}/hangup": { // which has ended
			status: [callers]int{303, 403, 303, 303, 403, 404, 403}, id: callID, table: "calls",
		},
		"GET /calls/{id}/erase": {status: [callers]int{303, 403, 200, 200, 403, 404, 403}, id: callID, table: "calls"},
		"POST /calls/{id}/erase": {
			status: [callers]int{303, 403, 303, 303, 403, 404, 403}, id: callID, table: "calls", form: url.Values{"confirm": {"yes"}},
		},

		"GET /messages": pages(303, 200, 200, 200, 403, 200, 403),
		"POST /messages": {
			status: [callers]int{303, 403, 303, 303, 403, 402, 403}, form: url.Values{"to": {"+447400123456"}, "body": {"Hello"}, "key": {uuid.NewString()}},
		},
		"POST /messages/quote": {
			status: [callers]int{303, 403, 200, 200, 403, 200, 403}, form: url.Values{"to": {"+447400123456"}, "body": {"Hello"}},
		},
		"GET /messages/{id}":              {status: [callers]int{303, 200, 200, 200, 403, 404, 403}, id: f.message.String(), table: "messages"},
		"GET /messages/{id}/conversation": {status: [callers]int{303, 200, 200, 200, 403, 404, 403}, id: f.message.String(), table: "messages"},

		"GET /knowledge": pages(303, 200, 200, 200, 403, 200, 403),
		"POST /knowledge/search": {
			status: [callers]int{303, 403, 200, 200, 403, 402, 403}, form: url.Values{"query": {"saturdays"}, "key": {uuid.NewString()}},
		},
		"POST /knowledge/documents": pages(303, 403, 422, 422, 403, 422, 403), // without a file
		"GET /knowledge/documents/{id}/delete": {
			status: [callers]int{303, 403, 200, 200, 403, 404, 403}, id: f.document.String(), table: "knowledge_documents",
		},
		"POST /knowledge/documents/{id}/delete": {
			status: [callers]int{303, 403, 303, 303, 403, 404, 403}, id: f.document.String(), table: "knowledge_documents", again: f.keepDocument,
		},

		"GET /ops":           pages(303, 404, 404, 404, 200, 404, 404),
		"POST /ops/verify":   {status: [callers]int{303, 404, 404, 404, 303, 404, 404}, form: url.Values{"reason": {f.reason}}, nobodys: true},
		"GET /ops/incidents": pages(303, 404, 404, 404, 200, 404, 404),
		"POST /ops/incidents": {
			status: [callers]int{303, 404, 404, 404, 303, 404, 404}, nobodys: true,
			form: url.Values{"title": {"Slow"}, "impact": {"degraded"}, "components": {"calls"}, "stage": {"investigating"}, "body": {"We look."}, "reason": {f.reason}},
		},
		"GET /ops/incidents/{id}": {status: [callers]int{303, 404, 404, 404, 200, 404, 404}, id: incidentID},
		"POST /ops/incidents/{id}": {
			status: [callers]int{303, 404, 404, 404, 303, 404, 404}, id: incidentID, nobodys: true,
			form: url.Values{"stage": {"monitoring"}, "body": {"It works again."}, "reason": {f.reason}},
		},
		"GET /ops/stripe-events":               pages(303, 404, 404, 404, 200, 404, 404),
		"GET /ops/stripe-events/replay-failed": pages(303, 404, 404, 404, 200, 404, 404),
		"POST /ops/stripe-events/replay-failed": {
			status: [callers]int{303, 404, 404, 404, 303, 404, 404}, form: url.Values{"reason": {f.reason}, "confirm": {"yes"}},
		},
		"GET /ops/stripe-events/{id}":         {status: [callers]int{303, 404, 404, 404, 200, 404, 404}, id: f.event, table: "stripe_events"},
		"GET /ops/stripe-events/{id}/payload": {status: [callers]int{303, 404, 404, 404, 200, 404, 404}, id: f.event, table: "stripe_events"},
		"POST /ops/stripe-events/{id}/replay": {
			status: [callers]int{303, 404, 404, 404, 303, 404, 404}, id: f.event, table: "stripe_events", form: url.Values{"reason": {f.reason}},
		},
		"GET /ops/wallets":             pages(303, 404, 404, 404, 200, 404, 404),
		"GET /ops/wallets/{id}":        {status: [callers]int{303, 404, 404, 404, 200, 404, 404}, id: f.org.String(), table: "organizations"},
		"GET /ops/wallets/{id}/freeze": {status: [callers]int{303, 404, 404, 404, 200, 404, 404}, id: f.org.String(), table: "organizations"},
		"GET /ops/wallets/{id}/thaw":   {status: [callers]int{303, 404, 404, 404, 200, 404, 404}, id: f.org.String(), table: "organizations"},
		"POST /ops/wallets/{id}/freeze": {
			status: [callers]int{303, 404, 404, 404, 303, 404, 404}, id: f.org.String(), table: "organizations", form: url.Values{"reason": {f.reason}},
		},
		"POST /ops/wallets/{id}/thaw": { // what the route before it did
			status: [callers]int{303, 404, 404, 404, 303, 404, 404}, id: f.org.String(), table: "organizations", form: url.Values{"reason": {f.reason}},
		},
		"GET /ops/wallets/{id}/adjust": {status: [callers]int{303, 404, 404, 404, 200, 404, 404}, id: f.org.String(), table: "organizations"},
		"POST /ops/wallets/{id}/adjust": {
			status: [callers]int{303, 404, 404, 404, 303, 404, 404}, id: f.org.String(), table: "organizations",
			form: url.Values{"kind": {"credit"}, "amount": {"1.00"}, "reason": {f.reason}, "reference": {"matrix"}, "confirm": {"yes"}},
		},
		"GET /ops/wallets/{id}/withdraw": {status: [callers]int{303, 404, 404, 404, 200, 404, 404}, id: f.org.String(), table: "organizations"},
		"POST /ops/wallets/{id}/withdraw": {
			status: [callers]int{303, 404, 404, 404, 303, 404, 404}, id: f.org.String(), table: "organizations",
			form: url.Values{"amount": {"1.00"}, "reason": {f.reason}, "key": {uuid.NewString()}, "parts": {"pi_harbour:100"}, "confirm": {"yes"}},
		},
		"GET /ops/wallets/{id}/close": {status: [callers]int{303, 404, 404, 404, 200, 404, 404}, id: f.org.String(), table: "organizations"},
		"POST /ops/wallets/{id}/close": { // with what the route before it has left of the payment
			status: [callers]int{303, 404, 404, 404, 303, 404, 404}, id: f.org.String(), table: "organizations", ready: f.settleHolds,
			form: url.Values{"reason": {f.reason}, "key": {uuid.NewString()}, "parts": {"pi_harbour:4800"}, "confirm": {"yes"}},
		},
		// The account is closed by then, so its key does not hold.
		"GET /ops/wallets/{id}/reopen": {
			status: [callers]int{303, 404, 404, 404, 200, 404, 401}, id: f.org.String(), table: "organizations", ready: f.keyForgotten,
		},
		"POST /ops/wallets/{id}/reopen": { // what the route before it did
			status: [callers]int{303, 404, 404, 404, 303, 404, 401}, id: f.org.String(), table: "organizations", form: url.Values{"reason": {f.reason}},
		},
		"GET /ops/organisations":     pages(303, 404, 404, 404, 200, 404, 404),
		"GET /ops/organisations/new": pages(303, 404, 404, 404, 200, 404, 404),
		"POST /ops/organisations": {
			status: [callers]int{303, 404, 404, 404, 303, 404, 404}, opens: "Opened by the matrix",
			form: url.Values{"name": {"Opened by the matrix"}, "owner": {"first@opened.example"}, "reason": {f.reason}},
		},
		"GET /ops/organisations/{id}":         {status: [callers]int{303, 404, 404, 404, 200, 404, 404}, id: f.org.String(), table: "organizations"},
		"GET /ops/organisations/{id}/suspend": {status: [callers]int{303, 404, 404, 404, 200, 404, 404}, id: f.org.String(), table: "organizations"},
		"POST /ops/organisations/{id}/suspend": {
			status: [callers]int{303, 404, 404, 404, 303, 404, 404}, id: f.org.String(), table: "organizations", form: url.Values{"reason": {f.reason}},
		},
		"GET /ops/organisations/{id}/unsuspend": {status: [callers]int{303, 404, 404, 404, 200, 404, 404}, id: f.org.String(), table: "organizations"},
		"POST /ops/organisations/{id}/unsuspend": { // what the route before it did
			status: [callers]int{303, 404, 404, 404, 303, 404, 404}, id: f.org.String(), table: "organizations", form: url.Values{"reason": {f.reason}},
		},
		"GET /ops/organisations/{id}/view": {status: [callers]int{303, 404, 404, 404, 200, 404, 404}, id: f.org.String(), table: "organizations"},
		"POST /ops/organisations/{id}/view": {
			status: [callers]int{303, 404, 404, 404, 303, 404, 404}, id: f.org.String(), table: "organizations", form: url.Values{"reason": {f.reason}},
		},
		"POST /ops/view/end": pages(303, 404, 404, 404, 303, 404, 403),

		"GET /ops/jobs":      pages(303, 404, 404, 404, 200, 404, 404),
		"GET /ops/jobs/{id}": {status: [callers]int{303, 404, 404, 404, 200, 404, 404}, id: jobID},
		"POST /ops/jobs/{id}/retry": {
			status: [callers]int{303, 404, 404, 404, 303, 404, 404}, id: jobID, nobodys: true, form: url.Values{"reason": {f.reason}}, again: f.keepJob,
		},
		"POST /ops/jobs/{id}/cancel": {
			status: [callers]int{303, 404, 404, 404, 303, 404, 404}, id: jobID, nobodys: true, form: url.Values{"reason": {f.reason}}, again: f.keepFailing, ready: f.keepFailing,
		},
		"GET /ops/jobs/river/": pages(303, 404, 404, 404, 200, 404, 404),
		"GET /ops/margin":      pages(303, 404, 404, 404, 200, 404, 404),
		"GET /ops/margin.csv":  pages(303, 404, 404, 404, 200, 404, 404),
		"POST /ops/margin/numbers": {
			status: [callers]int{303, 404, 404, 404, 303, 404, 404}, nobodys: true,
			form: url.Values{"country": {"GB"}, "monthly": {"1.15"}, "month": {"2026-01"}, "reason": {f.reason}},
		},
		"GET /ops/audit":      pages(303, 404, 404, 404, 200, 404, 404),
		"GET /ops/audit.csv":  pages(303, 404, 404, 404, 200, 404, 404),
		"GET /ops/audit/{id}": {status: [callers]int{303, 404, 404, 404, 200, 404, 404}, id: f.logged, table: "audit_log"},

		"GET /ops/prices/rate": pages(303, 404, 404, 404, 200, 404, 404),
		"POST /ops/prices/rate": {
			status: [callers]int{303, 404, 404, 404, 303, 404, 404}, nobodys: true,
			form: url.Values{"rate": {"0.80"}, "source": {"The matrix"}, "reason": {f.reason}, "seen": {"1"}, "confirm": {"yes"}},
		},
		"GET /ops/prices":     pages(303, 404, 404, 404, 200, 404, 404),
		"GET /ops/prices/new": pages(303, 404, 404, 404, 200, 404, 404),
		"POST /ops/prices": {
			status: [callers]int{303, 404, 404, 404, 303, 404, 404},
			form:   url.Values{"org": {"{org}"}, "action": {"knowledge"}, "state": {"on"}, "unit": {"0.01"}, "reason": {f.reason}, "confirm": {"yes"}},
		},

		"GET /ops/auto-top-ups": pages(303, 404, 404, 404, 200, 404, 404),
		"POST /ops/auto-top-ups": {
			status: [callers]int{303, 404, 404, 404, 303, 404, 404}, form: url.Values{"to": {"stop"}, "reason": {f.reason}}, nobodys: true,
		},

		"GET /ops/integrity":              pages(303, 404, 404, 404, 200, 404, 404),
		"GET /ops/integrity/numbers/{id}": {status: [callers]int{303, 404, 404, 404, 200, 404, 404}, id: numberID, table: "numbers"},
		"POST /ops/integrity/numbers/{id}": {
			status: [callers]int{303, 404, 404, 404, 303, 404, 404}, id: numberID, table: "numbers", form: url.Values{"do": {"release"}, "reason": {f.reason}}, again: f.keepNumber,
		},
		"GET /ops/integrity/links": pages(303, 404, 404, 404, 200, 404, 404),
		"POST /ops/integrity/links": {
			status: [callers]int{303, 404, 404, 404, 303, 404, 404}, form: url.Values{"reason": {f.reason}}, nobodys: true,
		},
		"GET /ops/integrity/strays": pages(303, 404, 404, 404, 200, 404, 404),
		"POST /ops/integrity/strays": {
			status: [callers]int{303, 404, 404, 404, 303, 404, 404}, form: url.Values{"provider": {"Twilio"}, "id": {f.stray}, "reason": {f.reason}}, nobodys: true, // whose it was, the job finds out
		},

		"GET /settings":                               person,
		"GET /settings/security":                      person,
		"POST /settings/theme":                        {status: [callers]int{303, 303, 303, 303, 303, 303, 403}, form: url.Values{"theme": {"dark"}}},
		"POST /settings/password":                     {status: [callers]int{303, 422, 422, 422, 422, 422, 403}, form: url.Values{"current": {"wrong"}}, counts: true},
		"POST /settings/organisation":                 {status: [callers]int{303, 303, 303, 303, 404, 404, 403}, form: url.Values{"org_id": {"{org}"}}},
		"GET /settings/second-factor":                 person,
		"POST /settings/second-factor":                pages(303, 303, 303, 303, 303, 303, 403),
		"POST /settings/second-factor/confirm":        {status: [callers]int{303, 422, 422, 422, 422, 422, 403}, form: bad, counts: true},
		"POST /settings/second-factor/recovery-codes": {status: [callers]int{303, 409, 409, 409, 409, 409, 403}, form: bad}, // it is off
		"POST /settings/second-factor/remove":         {status: [callers]int{303, 409, 409, 409, 409, 409, 403}, form: bad},
		"GET /settings/sessions":                      person,
		"POST /settings/sessions/end":                 {status: [callers]int{303, 404, 404, 404, 404, 404, 403}, form: url.Values{"id": {strings.Repeat("0", 64)}}},
		"POST /settings/sessions/end-others":          pages(303, 303, 303, 303, 303, 303, 403),
		"GET /settings/members":                       pages(303, 200, 200, 200, 403, 200, 403),
		"GET /settings/members/leave":                 pages(303, 200, 200, 200, 403, 200, 403),
		"POST /settings/members/leave":                {status: [callers]int{303, 303, 303, 409, 403, 409, 403}, again: f.keepMembers}, // the last owner stays
		"POST /settings/members/invitations": {
			status: [callers]int{303, 403, 403, 303, 403, 303, 403}, form: url.Values{"email": {"new@else.example"}, "role": {"viewer"}}, counts: true,
		},
		"POST /settings/members/invitations/{id}/resend": {
			status: [callers]int{303, 403, 403, 303, 403, 404, 403}, id: invitationID, table: "invitations", counts: true,
		},
		"POST /settings/members/invitations/{id}/revoke": {
			status: [callers]int{303, 403, 403, 303, 403, 404, 403}, id: invitationID, table: "invitations", again: f.keepInvitation,
		},
		"GET /settings/members/{id}": {status: [callers]int{303, 403, 403, 200, 403, 404, 403}, id: f.clerk.String(), table: "users", again: f.keepMembers},
		"POST /settings/members/{id}/role": {
			status: [callers]int{303, 403, 403, 303, 403, 404, 403}, id: f.clerk.String(), table: "users", form: url.Values{"role": {"viewer"}}, again: f.keepMembers,
		},
		"POST /settings/members/{id}/remove": {
			status: [callers]int{303, 403, 403, 303, 403, 404, 403}, id: f.clerk.String(), table: "users", again: f.keepMembers,
		},
		"GET /settings/webhooks":     pages(303, 200, 200, 200, 403, 200, 403),
		"GET /settings/webhooks/new": pages(303, 403, 403, 200, 403, 200, 403),
		"POST /settings/webhooks": {
			status: [callers]int{303, 403, 403, 200, 403, 200, 403}, form: url.Values{"url": {"https://matrix.example/"}, "types": {"wallet.low"}, "key": {"matrix"}},
		},
		"GET /settings/webhooks/{id}": {status: [callers]int{303, 200, 200, 200, 403, 404, 403}, id: f.hook.String(), table: "webhook_endpoints"},
		"POST /settings/webhooks/{id}": {
			status: [callers]int{303, 403, 403, 303, 403, 404, 403}, id: f.hook.String(), table: "webhook_endpoints", form: url.Values{"url": {"https://other.example/"}, "types": {"wallet.low"}},
		},
		"POST /settings/webhooks/{id}/roll": {status: [callers]int{303, 403, 403, 200, 403, 404, 403}, id: f.hook.String(), table: "webhook_endpoints"},
		"POST /settings/webhooks/{id}/test": {status: [callers]int{303, 403, 403, 303, 403, 404, 403}, id: f.hook.String(), table: "webhook_endpoints"},
		"POST /settings/webhooks/{id}/switch": {
			status: [callers]int{303, 403, 403, 303, 403, 404, 403}, id: f.hook.String(), table: "webhook_endpoints", form: url.Values{"to": {"on"}},
		},
		"GET /settings/webhooks/{id}/remove": {status: [callers]int{303, 403, 403, 200, 403, 404, 403}, id: f.hook.String(), table: "webhook_endpoints"},
		"POST /settings/webhooks/{id}/remove": {
			status: [callers]int{303, 403, 403, 303, 403, 404, 403}, id: f.hook.String(), table: "webhook_endpoints", again: f.keepWebhook,
		},
		"GET /settings/webhook-deliveries/{id}": {
			status: [callers]int{303, 200, 200, 200, 403, 404, 403}, id: deliveryID, table: "webhook_deliveries", again: f.keepWebhook,
		},
		"POST /settings/webhook-deliveries/{id}/resend": {
			status: [callers]int{303, 403, 403, 303, 403, 404, 403}, id: deliveryID, table: "webhook_deliveries", again: f.keepWebhook,
		},
		"GET /settings/keys": pages(303, 200, 200, 200, 403, 200, 403),
		"POST /settings/keys": {
			status: [callers]int{303, 403, 403, 200, 403, 200, 403}, form: url.Values{"name": {"Till"}, "scopes": {"wallet:read"}},
		},
		"POST /settings/keys/{id}/revoke": {status: [callers]int{303, 403, 403, 303, 403, 404, 403}, id: f.spareKey.String(), table: "api_keys"},

		"GET /api/v1/wallet": pages(401, 200, 200, 200, 403, 200, 200),
		"POST /api/v1/holds": {
			status: [callers]int{401, 403, 201, 201, 403, 402, 201}, form: url.Values{"json": {`{"action":"sms","quantity":1}`}},
		},
		"POST /api/v1/holds/{id}/capture": {
			status: [callers]int{401, 403, 200, 200, 403, 404, 200}, id: f.captured.String(), table: "holds", form: url.Values{"json": {`{"amount_pence":10}`}},
		},
		"POST /api/v1/holds/{id}/void": {
			status: [callers]int{401, 403, 200, 200, 403, 404, 200}, id: f.voided.String(), table: "holds", form: url.Values{"json": {`{}`}},
		},
		"GET /api/v1/messages":      pages(401, 200, 200, 200, 403, 200, 200),
		"GET /api/v1/messages/{id}": {status: [callers]int{401, 200, 200, 200, 403, 404, 200}, id: f.message.String(), table: "messages"},
		"GET /api/v1/calls":         pages(401, 200, 200, 200, 403, 200, 200),
		"POST /api/v1/calls": { // nobody was told about Harbour's agent yet, and the other one has none
			status: [callers]int{401, 403, 409, 409, 403, 409, 409}, form: url.Values{"json": {`{"to":"+447400123456"}`}},
		},
		"GET /api/v1/calls/{id}": {status: [callers]int{401, 200, 200, 200, 403, 404, 200}, id: callID, table: "calls"},
		"POST /api/v1/calls/{id}/hangup": {
			status: [callers]int{401, 403, 200, 200, 403, 404, 200}, id: callID, table: "calls", form: url.Values{"json": {`{}`}},
		},
		"POST /api/v1/messages": {
			status: [callers]int{401, 403, 201, 201, 403, 402, 201}, form: url.Values{"json": {`{"to":"+447400123456","body":"Hello"}`}},
		},
		"GET /api/v1/numbers":           pages(401, 200, 200, 200, 403, 200, 200),
		"GET /api/v1/numbers/available": pages(401, 422, 422, 422, 403, 422, 422), // without a country
		"POST /api/v1/numbers": {
			status: [callers]int{401, 403, 422, 422, 403, 422, 422}, form: url.Values{"json": {`{"phone_number":"+1"}`}},
		},
		"GET /api/v1/numbers/{id}": {
			status: [callers]int{401, 200, 200, 200, 403, 404, 200}, id: numberID, table: "numbers", again: f.keepNumber,
		},
		"DELETE /api/v1/numbers/{id}": {
			status: [callers]int{401, 403, 202, 202, 403, 404, 202}, id: numberID, table: "numbers", again: f.keepNumber,
		},
		"GET /api/v1/agents": pages(401, 200, 200, 200, 403, 200, 200),
		"POST /api/v1/agents": {
			status: [callers]int{401, 403, 201, 201, 403, 201, 201}, form: url.Values{"json": {`{"name":"Nights","first_message":"Hello","prompt":"Be kind."}`}},
		},
		"GET /api/v1/agents/{id}": {status: [callers]int{401, 200, 200, 200, 403, 404, 200}, id: agentID, table: "agents", again: f.keepNumber},
		"PATCH /api/v1/agents/{id}": {
			status: [callers]int{401, 403, 200, 200, 403, 404, 200}, id: agentID, table: "agents", again: f.keepNumber,
			form: url.Values{"json": {`{"first_message":"Good evening","prompt":"Be brief."}`}},
		},
		"DELETE /api/v1/agents/{id}": { // with a number, and nobody said what becomes of it
			status: [callers]int{401, 403, 409, 409, 403, 404, 409}, id: agentID, table: "agents", again: f.keepNumber,
		},
		"PUT /api/v1/agents/{id}/number": {
			status: [callers]int{401, 403, 200, 200, 403, 404, 200}, id: agentID, table: "agents", form: url.Values{"json": {`{"number_id":"` + numberID + `"}`}}, again: f.keepNumber,
		},
		"DELETE /api/v1/agents/{id}/number": {status: [callers]int{401, 403, 200, 200, 403, 404, 200}, id: agentID, table: "agents", again: f.keepNumber},
		"GET /api/v1/webhook-endpoints":     pages(401, 200, 200, 200, 403, 200, 200),
		"POST /api/v1/webhook-endpoints": { // without anything to be told of
			status: [callers]int{401, 403, 403, 422, 403, 422, 422}, form: url.Values{"json": {`{"url":"https://api.example/","types":[]}`}},
		},
		"GET /api/v1/webhook-endpoints/{id}": {
			status: [callers]int{401, 200, 200, 200, 403, 404, 200}, id: f.hook.String(), table: "webhook_endpoints", again: f.keepWebhook,
		},
		"PATCH /api/v1/webhook-endpoints/{id}": {
			status: [callers]int{401, 403, 403, 200, 403, 404, 200}, id: f.hook.String(), table: "webhook_endpoints", form: url.Values{"json": {`{"enabled":true}`}}, again: f.keepWebhook,
		},
		"DELETE /api/v1/webhook-endpoints/{id}": {
			status: [callers]int{401, 403, 403, 200, 403, 404, 200}, id: f.hook.String(), table: "webhook_endpoints", again: f.keepWebhook,
		},
		"POST /api/v1/webhook-endpoints/{id}/roll-secret": {
			status: [callers]int{401, 403, 403, 200, 403, 404, 200}, id: f.hook.String(), table: "webhook_endpoints", form: url.Values{"json": {`{}`}}, again: f.keepWebhook,
		},
		"POST /api/v1/knowledge/search": {
			status: [callers]int{401, 403, 200, 200, 403, 402, 200}, form: url.Values{"json": {`{"query":"saturdays"}`}},
		},

		"GET /api/openapi.json": public,
		"GET /api/docs":         public,

		"POST /api/webhooks/stripe":        pages(400, 400, 400, 400, 400, 400, 400), // unsigned
		"POST /api/webhooks/twilio/sms":    pages(403, 403, 403, 403, 403, 403, 403),
		"POST /api/webhooks/twilio/status": pages(403, 403, 403, 403, 403, 403, 403),
		"POST /api/webhooks/vapi":          pages(401, 401, 401, 401, 401, 401, 401), // without the secret

		"GET /status":      public,
		"GET /status.json": public,
		"GET /healthz":     public,
		"GET /readyz":      public,
		"GET /metrics":     pages(303, 404, 404, 404, 200, 404, 404),
		"GET /static/":     pages(404, 404, 404, 404, 404, 404, 404), // no list of what there is
	}
}

// fixture is a site with something of everything that belongs to Harbour Dental.
type fixture struct {
	*site
	topUp, event, reason string
	key                  string // an API key
	keyID, spareKey      uuid.UUID
	document             uuid.UUID // of the knowledge base
	message              uuid.UUID
	transaction          uuid.UUID
	credential           uuid.UUID // of its own Twilio account
	clerk                uuid.UUID // a member that nobody in the matrix is
	hook                 uuid.UUID // a webhook endpoint
	hookSealed           []byte    // its secret
	logged               string    // a row of the audit log
	stray                string    // a subaccount at Twilio that is nobody's
	captured, voided     uuid.UUID // open holds, made by a program, to be captured and voided
	wallets              *wallet.Ledger
	payments             *payments.Service
	deps                 handlers.Deps
}

const jobID = "424242"

const incidentID = "0197c5a0-0000-7000-8000-00000001c1de"

const (
	numberID = "0197c5a0-0000-7000-8000-000000000123"
	agentID  = "0197c5a0-0000-7000-8000-0000000000a9"
	callerID = "0197c5a0-0000-7000-8000-00000000ca11"
	callID   = "0197c5a0-0000-7000-8000-0000000ca115"
)

// agentValues is the form of an agent as people send it, with further fields as name, value pairs.
func agentValues(more ...string) url.Values {
	form := url.Values{"name": {"Reception"}, "voice": {"Elliot"}, "active": {"yes"}, "first_message": {"Hello"}, "prompt": {"Be kind."}}
	for i := 0; i+1 < len(more); i += 2 {
		form.Set(more[i], more[i+1])
	}
	return form
}

const deliveryID = "0197c5a0-0000-7000-8000-0000000000de"

const invitationID = "0197c5a0-0000-7000-8000-0000000000a1"

const eventID, reasonGiven = "evt_harbour", "TICKET-9: the matrix"

func newFixture(t *testing.T, opts ...func(*options)) fixture {
	t.Helper()
	f := fixture{event: eventID, reason: reasonGiven}
	f.site = identitySite(t, append([]func(*options){func(o *options) {
		o.mails = true
		o.deps = func(d *handlers.Deps) { d.SignUp = true; f.deps, f.wallets, f.payments = *d, d.Wallets, d.Payments }
		o.auth.AddressFailures, o.auth.SignUps = 10_000, 10_000 // everything here comes from one address
		o.auth.AccountFailures, o.auth.FactorFailures = 10_000, 10_000
		o.auth.AccountResets, o.auth.AddressResets, o.auth.Invitations = 10_000, 10_000, 10_000
	}}, opts...)...)
	ctx := t.Context()
	var ownerID uuid.UUID
	err := f.db.InSystemTx(ctx, "test", func(ctx context.Context, tx *db.Tx) (err error) {
		m, err := f.auth.CreateUser(ctx, tx, callerEmails[member], password, auth.PlatformNone)
		if err != nil {
			return err
		}
		if ownerID, err = auth.UserByEmail(ctx, tx, callerEmails[owner]); err != nil {
			return err
		}
		clerk, err := f.auth.CreateUser(ctx, tx, "clerk@harbour.example", password, auth.PlatformNone)
		if err != nil {
			return err
		}
		f.clerk = clerk.ID
		return f.auth.AddMember(ctx, tx, f.org, m.ID, auth.RoleMember)
	})
	if err != nil {
		t.Fatal(err)
	}
	top, err := f.payments.StartTopUp(ctx, f.org, ownerID, "50", "gbp")
	if err != nil {
		t.Fatal(err)
	}
	f.topUp = top.ID.String()
	dbtest.Super(t, f.dbURL, `INSERT INTO payments (payment_intent, org_id, top_up_id, amount_pence, paid_at, created_at, updated_at) VALUES ('pi_harbour', $1, $2, 5000, now(), now(), now())`, f.org, top.ID)
	dbtest.Super(t, f.dbURL, `
		INSERT INTO stripe_events (id, type, payload, state, reason, attempts, org_id, top_up_id, payment_intent, occurred_at, received_at, next_attempt_at)
		VALUES ($1, 'payment_intent.succeeded', '{"a":1}', 'failed', 'planted', 3, $2, $3, 'pi_harbour', now(), now(), now())`, eventID, f.org, top.ID)
	err = f.db.InTx(ctx, []uuid.UUID{f.org}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := wallet.CreditPayments(ctx, tx, []wallet.Payment{{PaymentIntent: "pi_harbour", OrgID: f.org, TopUpID: top.ID, Amount: 50_00, EventID: eventID}}); err != nil {
			return err
		}
		for _, k := range []struct {
			secret *string
			id     *uuid.UUID
		}{{&f.key, &f.keyID}, {new(string), &f.spareKey}} {
			secret, key, err := f.auth.CreateKey(ctx, tx, f.org, "Programs", auth.AllScopes, ownerID, audit.System("test"))
			if err != nil {
				return err
			}
			*k.secret, *k.id = secret, key.ID
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	dbtest.Super(t, f.dbURL, `UPDATE top_ups SET state = 'paid', paid_pence = 5000 WHERE id = $1`, top.ID)
	dbtest.Get(t, f.dbURL, &f.transaction, `SELECT transaction_id FROM credits WHERE payment_intent = 'pi_harbour'`)
	dbtest.Super(t, f.dbURL, `
		INSERT INTO wallet_days SELECT org_id, (created_at AT TIME ZONE 'UTC')::date, 1, 1, 1, balance_after_pence, 0, 0, 0, 0, 0, 0, 0, 0
		FROM ledger_transactions WHERE org_id = $1 AND seq = 1`, f.org)
	d, _, err := f.deps.Knowledge.Upload(ctx, knowledge.File{OrgID: f.org, UserID: ownerID, Actor: audit.User(ownerID), Name: "Hours.md", Content: []byte("Open on Saturdays.")})
	if err != nil {
		t.Fatal(err)
	}
	f.document = d.ID
	if _, err := f.deps.Knowledge.Search(ctx, knowledge.Query{OrgID: f.org, Actor: audit.User(ownerID), Key: "fixture", Text: "saturdays"}); err != nil {
		t.Fatal(err)
	}
	f.adjust(1) // what that cost
	m, err := f.deps.Messages.Send(ctx, telephony.SendRequest{OrgID: f.org, To: "+447400123456", Body: "See you on Saturday", Key: "fixture", Actor: audit.User(ownerID)})
	if err != nil {
		t.Fatal(err)
	}
	f.message = m.ID
	f.adjust(10) // what that cost
	f.reversals()
	f.keepCard()
	f.keepMembers()
	f.keepInvitation()
	hook, _, _, err := f.deps.Webhooks.Create(ctx, webhooks.NewEndpoint{
		OrgID: f.org, URL: "https://hook.example/", Types: []webhooks.Type{webhooks.NumberReleased}, Key: "fixture", Actor: audit.User(ownerID),
	})
	if err != nil {
		t.Fatal(err)
	}
	f.hook = hook.ID
	dbtest.Get(t, f.dbURL, &f.hookSealed, `SELECT sealed FROM webhook_endpoints WHERE id = $1`, f.hook)
	f.keepWebhook()
	dbtest.Super(t, f.dbURL, `INSERT INTO opt_outs (org_id, sender, recipient, word, since) VALUES ($1, '+447400123999', '+447400123456', 'STOP', now())`, f.org)
	dbtest.Super(t, f.dbURL, `INSERT INTO notices (id, org_id, kind, subject, data, raised_at) VALUES ('0191a0e8-0000-7000-8000-000000000001', $1, 'low_balance', '1', '{}', now())`, f.org)
	dbtest.Super(t, f.dbURL, `INSERT INTO notice_mails (id, org_id, user_id, kind, notices, state, next_attempt_at, created_at)
		VALUES (gen_random_uuid(), $1, $2, 'low_balance', '{0191a0e8-0000-7000-8000-000000000001}', 'queued', now(), now())`, f.org, ownerID)
	dbtest.Super(t, f.dbURL, `INSERT INTO notice_preferences (org_id, user_id, kind, mail) VALUES ($1, $2, 'low_balance', true)`, f.org, ownerID)
	dbtest.Super(t, f.dbURL, `INSERT INTO notice_marks (org_id) VALUES ($1)`, f.org)
	f.keepCredential()
	f.keepNumber()
	f.keepJob()
	dbtest.Super(t, f.dbURL, `INSERT INTO incidents (id, title, impact, components, started_at, created_at) VALUES ($1, 'Calls', 'degraded', '{calls}', now(), now())`, incidentID)
	dbtest.Get(t, f.dbURL, &f.logged, `SELECT min(id)::text FROM audit_log WHERE org_id = $1`, f.org)
	f.stray, _ = f.subaccount("Ringfence " + f.org.String())
	dbtest.Super(t, f.dbURL, `INSERT INTO withdrawals (id, org_id, amount_pence, reason, actor, created_at) VALUES (gen_random_uuid(), $1, 1, 'Refused', 'system:test', now())`, f.org)
	dbtest.Super(t, f.dbURL, `
		INSERT INTO withdrawal_parts (withdrawal_id, org_id, payment_intent, amount_pence, state, next_attempt_at, updated_at)
		SELECT id, org_id, 'pi_harbour', 1, 'refused', now(), now() FROM withdrawals WHERE org_id = $1`, f.org)
	if _, err := f.deps.Gates.SetPrice(ctx, wallet.PriceChange{
		OrgID: f.org, Action: wallet.ActionNumber, State: wallet.PriceOn, Unit: 9_00, Monthly: 1_00, Reason: "Agreed", Actor: audit.System("test"),
	}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []*uuid.UUID{&f.captured, &f.voided} {
		h, err := f.deps.Gates.Authorise(ctx, wallet.HoldRequest{
			OrgID: f.org, Action: wallet.ActionSMS, Quantity: 1, Source: wallet.SourceAPI, Key: uuid.NewString(), Actor: audit.User(ownerID),
		})
		if err != nil {
			t.Fatal(err)
		}
		*id = h.ID
	}
	return f
}

// reversals plants what refunds, disputes, reconciliation and the history leave of Harbour Dental.
func (f fixture) reversals() {
	f.t.Helper()
	for _, statement := range []string{
		`INSERT INTO refunds (id, org_id, payment_intent, amount_pence, status, created_at, updated_at) VALUES ('re_harbour', $1, 'pi_harbour', 100, 'succeeded', now(), now())`,
		`INSERT INTO disputes (id, org_id, payment_intent, amount_pence, withdrawn_pence, status, reason, created_at, updated_at)
		 VALUES ('dp_harbour', $1, 'pi_harbour', 100, 0, 'warning_closed', 'general', now(), now())`,
		`WITH r AS (INSERT INTO reconciliations (id, kind, since, until, started_at) VALUES (gen_random_uuid(), 'manual', now(), now(), now()) RETURNING id)
		 INSERT INTO healed_credits (payment_intent, org_id, reconciliation_id, amount_pence, delay_ms, healed_at) SELECT 'pi_harbour', $1, r.id, 5000, 1, now() FROM r`,
	} {
		dbtest.Super(f.t, f.dbURL, statement, f.org)
	}
	err := f.db.InTx(f.t.Context(), []uuid.UUID{f.org}, func(ctx context.Context, tx *db.Tx) error {
		_, err := wallet.Reverse(ctx, tx, wallet.Standing{
			PaymentIntent: "pi_harbour", OrgID: f.org, TopUpID: uuid.MustParse(f.topUp), Refunded: 100, Actor: audit.System("test"),
		})
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.adjust(100) // what that took
	if _, err := f.deps.Wallets.AddUp(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
}

// subaccount makes one at the stand-in for Twilio.
func (s *site) subaccount(name string) (sid, token string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.box+"/2010-04-01/Accounts.json", strings.NewReader(url.Values{"FriendlyName": {name}}.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	req.SetBasicAuth(twilioAccount, twilioToken)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	var said struct {
		SID   string `json:"sid"`
		Token string `json:"auth_token"`
	}
	if err := json.NewDecoder(res.Body).Decode(&said); err != nil || said.SID == "" {
		s.t.Fatalf("%s: %v", res.Status, err)
	}
	return said.SID, said.Token
}

// keepCredential gives Harbour Dental a credential of its own at Twilio.
func (f *fixture) keepCredential() {
	f.t.Helper()
	sid, token := f.subaccount("Harbour's own")
	c, err := f.numbers.SaveOwn(f.t.Context(), telephony.OwnAccount{OrgID: f.org, AccountSID: sid, AuthToken: token, Actor: audit.System("test")})
	if err != nil {
		f.t.Fatal(err)
	}
	f.credential = c.ID
}

// keepNumber gives Harbour Dental a number of its own Twilio account, and an agent that answers it.
func (f fixture) keepNumber() {
	f.t.Helper()
	dbtest.Super(f.t, f.dbURL, `
		INSERT INTO numbers (id, org_id, phone_number, country, kind, state, step, account_sid, credential_id, sid, vapi_id, key, fingerprint, actor, created_at, activated_at)
		SELECT $3, $1, '+447400123456', 'GB', 'byoc', 'active', '', account_sid, id, 'PN1', 'v1', 'fixture', sha256('fixture'), 'system:test', now(), now()
		FROM credentials WHERE id = $2
		ON CONFLICT (id) DO UPDATE SET state = 'active', step = '', next_at = NULL, releasing_at = NULL WHERE numbers.state <> 'active'`, f.org, f.credential, numberID)
	dbtest.Super(f.t, f.dbURL, `
		INSERT INTO agents (id, org_id, name, number_id, created_at, updated_at) SELECT $3, $1, 'Reception', $2, now(), now()
		ON CONFLICT (id) DO UPDATE SET number_id = $2, deleted_at = NULL, active = true WHERE agents.number_id IS NULL`, f.org, numberID, agentID)
	for _, sql := range []string{
		`INSERT INTO caller_ids (id, org_id, phone_number, state, account_sid, created_by, created_at)
		 VALUES ('` + callerID + `', $1, '+447400123456', 'waiting', 'AC1', 'system:test', now())
		 ON CONFLICT (id) DO UPDATE SET state = 'waiting', ended_at = NULL WHERE caller_ids.state <> 'waiting'`,
		`INSERT INTO calls (id, org_id, direction, number_id, our_number, party, state, ceiling_seconds, covered_seconds, key, fingerprint, actor, created_at, ended_at)
		 VALUES ('` + callID + `', $1, 'inbound', '0197c5a0-0000-7000-8000-000000000123', '+447400123456', '+447400123999', 'refused', 0, 0,
		         'fixture', sha256('fixture'), 'system:test', now(), now()) ON CONFLICT DO NOTHING`,
		`INSERT INTO inbound_messages (id, org_id, number_id, sid, sender, recipient, body, meaning, received_at)
		 VALUES ('0197c5a0-0000-7000-8000-0000000e5a9e', $1, '0197c5a0-0000-7000-8000-000000000123', 'SM1', '+447400123999', '+447400123456', 'Hello', 'none', now()) ON CONFLICT DO NOTHING`,
		`INSERT INTO retentions (org_id, days, updated_at) VALUES ($1, 90, now()) ON CONFLICT DO NOTHING`,
	} {
		dbtest.Super(f.t, f.dbURL, sql, f.org)
	}
}

// keepJob has a job that was given up.
func (f fixture) keepJob() {
	f.t.Helper()
	dbtest.Super(f.t, f.dbURL, `
		INSERT INTO river_job (id, state, attempt, max_attempts, attempted_at, created_at, scheduled_at, finalized_at, priority, args, kind, queue, errors)
		VALUES (`+jobID+`, 'discarded', 3, 3, now(), now(), now(), now(), 1, '{"org_id": "x"}', 'planted', 'default', ARRAY['{"at":"2026-01-01T00:00:00Z","attempt":3,"error":"planted <error>","trace":""}'::jsonb])
		ON CONFLICT (id) DO UPDATE SET state = 'discarded', attempt = 3, max_attempts = 3, finalized_at = now() WHERE river_job.state <> 'discarded'`)
}

// keepFailing has the same job, which is to be tried again.
func (f fixture) keepFailing() {
	f.t.Helper()
	f.keepJob()
	dbtest.Super(f.t, f.dbURL, `UPDATE river_job SET state = 'retryable', finalized_at = NULL, attempt = 2 WHERE id = `+jobID)
}

// keepDocument brings the document back if it was deleted.
func (f fixture) keepDocument() {
	f.t.Helper()
	dbtest.Super(f.t, f.dbURL, `
		INSERT INTO knowledge_documents (id, org_id, name, kind, bytes, sha256, pages, chunks, uploaded_by, created_at)
		SELECT $1, $2, 'Hours.md', 'markdown', 18, sha256('Open on Saturdays.'), 0, 1, user_id, now() FROM memberships WHERE org_id = $2 AND role = 'owner' ON CONFLICT DO NOTHING`, f.document, f.org)
	dbtest.Super(f.t, f.dbURL, `
		INSERT INTO knowledge_chunks (org_id, document_id, position, page, text) VALUES ($2, $1, 1, 0, 'Open on Saturdays.') ON CONFLICT DO NOTHING`, f.document, f.org)
}

// keepMembers brings back who left or was removed.
func (f fixture) keepMembers() {
	f.t.Helper()
	dbtest.Super(f.t, f.dbURL, `
		INSERT INTO memberships (org_id, user_id, role, created_at)
		SELECT $1, id, CASE split_part(email, '@', 1) WHEN 'viewer' THEN 'viewer' ELSE 'member' END, now() FROM users
		WHERE email IN ('viewer@harbour.example', 'member@harbour.example', 'clerk@harbour.example') ON CONFLICT DO NOTHING`, f.org)
}

// keepInvitation gives Harbour Dental an open invitation.
func (f fixture) keepInvitation() {
	f.t.Helper()
	dbtest.Super(f.t, f.dbURL, `
		INSERT INTO invitations (id, org_id, email, role, token_hash, invited_by, created_at, sent_at, expires_at)
		SELECT $2, $1, 'asked@else.example', 'viewer', sha256('fixture'), user_id, now(), now(), now() + interval '7 days'
		FROM memberships WHERE org_id = $1 AND role = 'owner'
		ON CONFLICT (id) DO UPDATE SET revoked_at = NULL WHERE invitations.revoked_at IS NOT NULL`, f.org, invitationID)
}

// keepWebhook brings the webhook endpoint back if it was removed, with something that was sent to it.
func (f fixture) keepWebhook() {
	f.t.Helper()
	dbtest.Super(f.t, f.dbURL, `UPDATE webhook_endpoints SET removed_at = NULL, sealed = $2 WHERE id = $1 AND removed_at IS NOT NULL`, f.hook, f.hookSealed)
	for _, statement := range []string{
		`INSERT INTO webhook_events (id, org_id, type, subject, data, happened_at) VALUES ('0197c5a0-0000-7000-8000-0000000000ee', $1, 'number.released', 'x', '{}', now()) ON CONFLICT DO NOTHING`,
		`INSERT INTO webhook_deliveries (id, org_id, endpoint_id, event_id, state, next_attempt_at, created_at, ended_at)
		 SELECT '` + deliveryID + `', $1, id, '0197c5a0-0000-7000-8000-0000000000ee', 'failed', now(), now(), now() FROM webhook_endpoints WHERE org_id = $1 AND key = 'fixture' ON CONFLICT DO NOTHING`,
		`INSERT INTO webhook_attempts (delivery_id, n, org_id, at, took_ms, status) VALUES ('` + deliveryID + `', 1, $1, now(), 1, 500) ON CONFLICT DO NOTHING`,
	} {
		dbtest.Super(f.t, f.dbURL, statement, f.org)
	}
}

// keepCard gives Harbour Dental a saved card, and automatic top-ups that charge it.
func (f fixture) keepCard() {
	f.t.Helper()
	for _, statement := range []string{
		`INSERT INTO saved_cards (payment_method, org_id, brand, last4, exp_month, exp_year, consented_by, consented_at, consent, created_at)
		 SELECT 'pm_harbour', $1, 'visa', '4242', 12, 2099, user_id, now(), 'I agree.', now() FROM memberships WHERE org_id = $1 AND role = 'owner'
		 ON CONFLICT (payment_method) DO UPDATE SET removed_at = NULL, removed_why = '', detached_at = NULL WHERE saved_cards.removed_at IS NOT NULL`,
		`INSERT INTO auto_top_ups (org_id, state, threshold_pence, amount_pence, daily_cap_pence, monthly_cap_pence, consented_by, consented_at, consent, created_at, updated_at)
		 SELECT $1, 'ready', 500, 5000, 10000, 50000, user_id, now(), 'I agree.', now(), now() FROM memberships WHERE org_id = $1 AND role = 'owner' ON CONFLICT DO NOTHING`,
		`INSERT INTO card_setups (id, org_id, user_id, consent, state, created_at, updated_at)
		 SELECT '00000000-0000-7000-8000-000000000001', $1, user_id, 'I agree.', 'expired', now(), now() FROM memberships WHERE org_id = $1 AND role = 'owner' ON CONFLICT DO NOTHING`,
	} {
		dbtest.Super(f.t, f.dbURL, statement, f.org)
	}
}

// allowed are settings of automatic top-ups with the words by which they are agreed to.
func allowed() url.Values {
	set := payments.SuggestedAutoTopUp()
	return url.Values{
		"threshold": {set.Threshold.Decimal()}, "amount": {set.Amount.Decimal()}, "daily_cap": {set.DailyCap.Decimal()}, "monthly_cap": {set.MonthlyCap.Decimal()},
		"words": {set.Words()}, "confirm": {"yes"},
	}
}

// settleHolds ends what is on hold, as whoever made it would; the same again changes nothing.
func (f fixture) settleHolds() {
	f.t.Helper()
	s := wallet.Settlement{OrgID: f.org, Source: wallet.SourceAPI, Amount: 10, Actor: audit.System("test")}
	s.Hold = f.captured
	_, err := f.deps.Gates.Capture(f.t.Context(), s)
	if s.Hold = f.voided; err == nil {
		_, err = f.deps.Gates.Void(f.t.Context(), s)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// keyForgotten waits until the site has forgotten the key of a closed account, which it remembers for half a second.
func (f fixture) keyForgotten() {
	f.t.Helper()
	for until := time.Now().Add(20 * time.Second); f.browser().get("/api/v1/wallet", "Authorization", "Bearer "+f.key).StatusCode != http.StatusUnauthorized; {
		if time.Now().After(until) {
			f.t.Fatal("the key of a closed account still holds")
		}
	}
}

// failAgain makes the event one that operators may replay.
func (f fixture) failAgain() {
	f.t.Helper()
	dbtest.Super(f.t, f.dbURL, `UPDATE stripe_events SET state = 'failed', attempts = 3, reason = 'planted' WHERE id = $1`, eventID)
}

// caller is a browser or program of the matrix, with a token that its forms may carry.
func (f fixture) caller(who int) (b *browser, token string, headers []string) {
	f.t.Helper()
	switch who {
	case stranger:
		b = f.browser()
		return b, b.token("/login"), nil
	case program:
		return f.browser(), "", []string{"Authorization", "Bearer " + f.key}
	}
	b = f.as(callerEmails[who])
	return b, b.token("/settings"), nil
}

// target is the address of a route with Harbour Dental's row in it.
func (r rule) target(rt handlers.Route) string {
	return strings.ReplaceAll(strings.ReplaceAll(rt.Pattern, "{$}", ""), "{id}", r.id)
}

// body is the rule's form with a token.
func (r rule) body(f fixture, token string) url.Values {
	with := url.Values{}
	for name, values := range r.form {
		for _, v := range values {
			with.Add(name, strings.ReplaceAll(v, "{org}", f.org.String()))
		}
	}
	if token != "" {
		with.Set("csrf_token", token)
	}
	return with
}

// ask sends a request for a route, with the form where the method takes one; a program's body is the form's "json". A stream
// is left after its headers.
func (b *browser) ask(rt handlers.Route, path string, form url.Values, headers ...string) reply {
	b.s.t.Helper()
	ctx, cancel := context.WithCancel(b.s.t.Context())
	defer cancel()
	var body io.Reader = http.NoBody
	switch {
	case rt.Method == http.MethodGet:
	case strings.HasPrefix(rt.Pattern, "/api/v1/"):
		body = strings.NewReader(form.Get("json"))
	default:
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, rt.Method, b.s.URL+path, body)
	if err != nil {
		b.s.t.Fatal(err)
	}
	switch {
	case rt.Method == http.MethodGet:
	case strings.HasPrefix(rt.Pattern, "/api/v1/"):
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", uuid.NewString())
		req.Header.Set("X-CSRF-Token", form.Get("csrf_token"))
	default:
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := b.Do(req)
	if err != nil {
		b.s.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.Header.Get("Content-Type") == "text/event-stream" {
		return reply{Response: res}
	}
	text, err := io.ReadAll(res.Body)
	if err != nil {
		b.s.t.Fatal(err)
	}
	return reply{res, string(text)}
}

// state is a fingerprint of every row of every table, by table. What is only a note of when somebody was last seen is
// left out.
func (s *site) state() map[string]string {
	s.t.Helper()
	var tables []string
	dbtest.Select(s.t, s.dbURL, &tables, `SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') ORDER BY 1`)
	if len(tables) < 15 {
		s.t.Fatalf("only %d tables", len(tables))
	}
	parts := make([]string, len(tables))
	for i, name := range tables {
		parts[i] = fmt.Sprintf(`SELECT %s AS name, count(*) || ' rows ' || coalesce(md5(string_agg(r, '|' ORDER BY r)), '') AS print
			FROM (SELECT (to_jsonb(t) - 'last_seen_at' - 'last_used_at')::text AS r FROM %s t) x`, pq.QuoteLiteral(name), pq.QuoteIdentifier(name))
	}
	var rows []struct{ Name, Print string }
	dbtest.Select(s.t, s.dbURL, &rows, strings.Join(parts, " UNION ALL "))
	prints := map[string]string{}
	for _, r := range rows {
		prints[r.Name] = r.Print
	}
	return prints
}

// wantUnchanged fails when a table is not as it was.
func (s *site) wantUnchanged(what string, before map[string]string) {
	s.t.Helper()
	for name, print := range s.state() {
		if before[name] != print {
			s.t.Errorf("%s changed %s: %s before, %s after", what, name, before[name], print)
		}
	}
}

// Every route answers every caller as the matrix says, and who is refused changes nothing; nor does any GET.
func TestAccessMatrix(t *testing.T) {
	f := newFixture(t)
	rules := matrix(f)
	var sessions [callers]*browser // good ones, beside a credential that is not
	var tokens [callers]string
	for _, who := range []int{stranger, owner, platform} {
		sessions[who], tokens[who], _ = f.caller(who)
	}
	seen := map[string]bool{}
	for _, rt := range handlers.Routes() {
		name := rt.Method + " " + rt.Pattern
		seen[name] = true
		r, ok := rules[name]
		if !ok {
			t.Errorf("%s has no row in the matrix: say there what each caller gets", name)
			continue
		}
		r.wantFitting(t, name, rt.Access)
		if strings.Contains(rt.Pattern, "{id}") != (r.id != "") {
			t.Errorf("%s: its row names no id, or one too many", name)
		}
		f.failAgain()
		f.keepMembers()
		if r.ready != nil {
			r.ready()
		}
		var by [callers]*browser
		var with [callers]string
		var headers [callers][]string
		for who := range callers {
			by[who], with[who], headers[who] = f.caller(who)
		}
		ask := func(who int) {
			if r.again != nil {
				r.again()
			}
			res := by[who].ask(rt, r.target(rt), r.body(f, with[who]), headers[who]...)
			wantStatus(t, name+" for the "+callerNames[who], res, r.status[who])
			if who == outsider && strings.Contains(res.body, "Harbour") {
				t.Errorf("%s tells the %s of Harbour Dental:\n%s", name, callerNames[who], res.body)
			}
		}
		if r.again != nil { // what a route before this one took away
			r.again()
		}
		// Who gets in comes last, so that what is there to be refused is still there.
		before := f.state()
		for who := range callers {
			if r.refuses(rt, who) {
				ask(who)
			}
		}
		if !r.counts {
			f.wantUnchanged(name+", refused,", before)
		}
		before = f.state()
		for who := range callers {
			if !r.refuses(rt, who) {
				ask(who)
			}
		}
		if rt.Method == http.MethodGet {
			f.wantUnchanged(name, before)
		}
		if rt.Access == handlers.Webhook {
			continue
		}
		before = f.state()
		for _, who := range []int{stranger, owner, platform} {
			b, token := sessions[who], tokens[who]
			// An empty header is no credential either, and the session beside it does not count.
			for _, credential := range []string{"", "Bearer garbage", "Bearer rf_test_" + strings.Repeat("a", 10) + "_" + strings.Repeat("b", 26), "Basic eDp4", "Bearer"} {
				res := b.ask(rt, r.target(rt), r.body(f, token), "Authorization", credential)
				wantStatus(t, fmt.Sprintf("%s for the %s with Authorization %q", name, callerNames[who], credential), res, http.StatusUnauthorized)
			}
		}
		f.wantUnchanged(name+" with a credential that does not hold", before)
	}
	for name := range rules {
		if !seen[name] {
			t.Errorf("the matrix has a row for %s, which is no route", name)
		}
	}
}

// refuses reports whether the matrix has a caller turned away: told so, or sent to sign in.
func (r rule) refuses(rt handlers.Route, who int) bool {
	return r.status[who] >= 400 || who == stranger && r.status[who] == http.StatusSeeOther && (rt.Access == handlers.Session || rt.Access == handlers.Person || rt.Access == handlers.Operator)
}

// wantFitting holds a row of the matrix against what its route's access promises.
func (r rule) wantFitting(t *testing.T, name string, access handlers.Access) {
	t.Helper()
	want := map[int][]int{}
	switch access {
	case handlers.Session:
		want = map[int][]int{stranger: {303}, platform: {303, 403}, program: {403}}
	case handlers.Person:
		want = map[int][]int{stranger: {303}, program: {403}}
	case handlers.Operator:
		want = map[int][]int{stranger: {303}, viewer: {404}, member: {404}, owner: {404}, outsider: {404}, program: {404, 401}, platform: {200, 303}}
	case handlers.RequireAuth, handlers.RequireAuthOrDev:
		want = map[int][]int{stranger: {401}, platform: {403}}
	case handlers.Webhook:
		for who := range callers {
			want[who] = []int{400, 401, 403}
		}
	case handlers.Public, handlers.OptionalAuth:
	default:
		t.Errorf("%s: access %q is none we know", name, access)
	}
	for who, allowed := range want {
		if !slices.Contains(allowed, r.status[who]) {
			t.Errorf("%s is for %q, yet its row promises %d to the %s", name, access, r.status[who], callerNames[who])
		}
	}
}

// What differs from answer to answer by design: the request's id and the form's token.
var varying = regexp.MustCompile(`[A-Z2-7]{26}|[A-Za-z0-9_-]{86}`)

func steady(body string) string { return varying.ReplaceAllString(body, "·") }

// A row of another organisation is answered exactly as one that was never there: by every route that takes an id, by the
// function behind it, and by the database alone when nothing stands before it.
func TestRowsOfOthersDoNotExist(t *testing.T) {
	f := newFixture(t)
	b, token, _ := f.caller(outsider)
	_, foreign, err := f.auth.SignIn(t.Context(), callerEmails[outsider], password, "192.0.2.1", "test")
	if err != nil {
		t.Fatal(err)
	}
	_, mine, err := f.auth.SignIn(t.Context(), callerEmails[owner], password, "192.0.2.1", "test")
	if err != nil {
		t.Fatal(err)
	}
	// The domain function behind each route, as another organisation would reach it with the handlers out of the way.
	topUp := func(who auth.Identity) error {
		_, err := f.payments.TopUp(t.Context(), who.OrgID, uuid.MustParse(f.topUp))
		return err
	}
	behind := map[string]func(who auth.Identity) error{
		"GET /wallet/top-ups/{id}": topUp,
		"GET /wallet/top-ups/{id}/invoice": func(who auth.Identity) error {
			_, err := f.payments.Document(t.Context(), who.OrgID, uuid.MustParse(f.topUp), "")
			if errors.Is(err, payments.ErrNoDocument) { // Stripe does not know the fixture's payment
				return nil
			}
			return err
		},
		"POST /settings/keys/{id}/revoke": func(who auth.Identity) error { return f.auth.RevokeOrgKey(t.Context(), who, f.spareKey) },
		"POST /api/v1/holds/{id}/capture": func(who auth.Identity) error {
			_, err := f.deps.Gates.Capture(t.Context(), wallet.Settlement{OrgID: who.OrgID, Hold: f.captured, Source: wallet.SourceAPI, Whole: true, Actor: who.Actor()})
			return err
		},
		"POST /api/v1/holds/{id}/void": func(who auth.Identity) error {
			_, err := f.deps.Gates.Void(t.Context(), wallet.Settlement{OrgID: who.OrgID, Hold: f.voided, Source: wallet.SourceAPI, Actor: who.Actor()})
			return err
		},
		"GET /wallet/transactions/{id}": func(who auth.Identity) error {
			_, err := f.deps.Wallets.Explain(t.Context(), who.OrgID, f.transaction)
			return err
		},
		"GET /numbers/{id}": func(who auth.Identity) error {
			_, err := f.numbers.Number(t.Context(), who.OrgID, uuid.MustParse(numberID))
			return err
		},
		"GET /settings/members/{id}": func(who auth.Identity) error {
			f.keepMembers()
			_, err := f.auth.Member(t.Context(), who, f.clerk)
			return err
		},
		"POST /settings/members/{id}/role": func(who auth.Identity) error {
			f.keepMembers()
			return f.auth.ChangeRole(t.Context(), who, f.clerk, auth.RoleViewer)
		},
		"POST /settings/members/{id}/remove": func(who auth.Identity) error {
			f.keepMembers()
			_, err := f.auth.RemoveMember(t.Context(), who, f.clerk)
			return err
		},
		"POST /settings/members/invitations/{id}/resend": func(who auth.Identity) error {
			f.keepInvitation()
			return f.auth.ResendInvitation(t.Context(), who, uuid.MustParse(invitationID))
		},
		"POST /settings/members/invitations/{id}/revoke": func(who auth.Identity) error {
			return f.auth.RevokeInvitation(t.Context(), who, uuid.MustParse(invitationID))
		},
		"GET /settings/webhooks/{id}": func(who auth.Identity) error {
			f.keepWebhook()
			_, err := f.deps.Webhooks.Endpoint(t.Context(), who.OrgID, f.hook)
			return err
		},
		"POST /settings/webhooks/{id}": func(who auth.Identity) error {
			f.keepWebhook()
			_, err := f.deps.Webhooks.Change(t.Context(), who.OrgID, f.hook, webhooks.Change{On: new(true)}, who.Actor())
			return err
		},
		"POST /settings/webhooks/{id}/roll": func(who auth.Identity) error {
			f.keepWebhook()
			_, _, _, err := f.deps.Webhooks.Roll(t.Context(), who.OrgID, f.hook, "behind", who.Actor())
			return err
		},
		"POST /settings/webhooks/{id}/test": func(who auth.Identity) error {
			f.keepWebhook()
			_, err := f.deps.Webhooks.Test(t.Context(), who.OrgID, f.hook, who.Actor())
			return err
		},
		"POST /settings/webhooks/{id}/remove": func(who auth.Identity) error {
			f.keepWebhook()
			return f.deps.Webhooks.Remove(t.Context(), who.OrgID, f.hook, who.Actor())
		},
		"GET /settings/webhook-deliveries/{id}": func(who auth.Identity) error {
			_, _, _, err := f.deps.Webhooks.Delivery(t.Context(), who.OrgID, uuid.MustParse(deliveryID))
			return err
		},
		"POST /settings/webhook-deliveries/{id}/resend": func(who auth.Identity) error {
			f.keepWebhook()
			return f.deps.Webhooks.Resend(t.Context(), who.OrgID, uuid.MustParse(deliveryID), who.Actor())
		},
		"GET /messages/{id}": func(who auth.Identity) error {
			_, err := f.deps.Messages.Message(t.Context(), who.OrgID, f.message)
			return err
		},
		"GET /knowledge/documents/{id}/delete": func(who auth.Identity) error {
			f.keepDocument()
			_, err := f.deps.Knowledge.Document(t.Context(), who.OrgID, f.document)
			return err
		},
		"POST /knowledge/documents/{id}/delete": func(who auth.Identity) error {
			f.keepDocument()
			return f.deps.Knowledge.Delete(t.Context(), who.OrgID, f.document, who.Actor())
		},
	}
	behind["POST /settings/webhooks/{id}/switch"], behind["PATCH /api/v1/webhook-endpoints/{id}"] = behind["POST /settings/webhooks/{id}"], behind["POST /settings/webhooks/{id}"]
	behind["GET /settings/webhooks/{id}/remove"], behind["GET /api/v1/webhook-endpoints/{id}"] = behind["GET /settings/webhooks/{id}"], behind["GET /settings/webhooks/{id}"]
	behind["DELETE /api/v1/webhook-endpoints/{id}"] = behind["POST /settings/webhooks/{id}/remove"]
	behind["POST /api/v1/webhook-endpoints/{id}/roll-secret"] = behind["POST /settings/webhooks/{id}/roll"]
	behind["GET /numbers/{id}/release"], behind["GET /api/v1/numbers/{id}"] = behind["GET /numbers/{id}"], behind["GET /numbers/{id}"]
	behind["POST /numbers/{id}/release"] = func(who auth.Identity) error {
		_, err := f.numbers.Release(t.Context(), telephony.ReleaseRequest{OrgID: who.OrgID, Number: uuid.MustParse(numberID), Actor: who.Actor()})
		return err
	}
	behind["DELETE /api/v1/numbers/{id}"] = behind["POST /numbers/{id}/release"]
	agents := func(do func(who auth.Identity, id uuid.UUID) error) func(auth.Identity) error {
		return func(who auth.Identity) error {
			f.keepNumber() // which another of these may have taken away
			return do(who, uuid.MustParse(agentID))
		}
	}
	behind["GET /agents/{id}"] = agents(func(who auth.Identity, id uuid.UUID) error {
		_, err := f.agents.Agent(t.Context(), who.OrgID, id)
		return err
	})
	// Before a call is placed its agent is read: a call by another organisation's is refused as one by nobody.
	for _, name := range []string{"GET /api/v1/agents/{id}", "GET /agents/{id}/delete", "POST /agents/{id}/call", "POST /agents/{id}/call/quote"} {
		behind[name] = behind["GET /agents/{id}"]
	}
	behind["POST /agents/{id}"] = agents(func(who auth.Identity, id uuid.UUID) error {
		fields := telephony.AgentFields{Name: "Reception", Voice: telephony.Voices[0], FirstMessage: "Hello", Prompt: "Be kind."}
		_, err := f.agents.Edit(t.Context(), who.OrgID, id, fields, who.Actor())
		return err
	})
	behind["PATCH /api/v1/agents/{id}"] = behind["POST /agents/{id}"]
	behind["POST /agents/{id}/link"] = agents(func(who auth.Identity, id uuid.UUID) error {
		_, err := f.agents.Link(t.Context(), who.OrgID, id, uuid.MustParse(numberID), who.Actor())
		return err
	})
	behind["PUT /api/v1/agents/{id}/number"] = behind["POST /agents/{id}/link"]
	behind["POST /agents/{id}/unlink"] = agents(func(who auth.Identity, id uuid.UUID) error {
		_, err := f.agents.Unlink(t.Context(), who.OrgID, id, who.Actor())
		return err
	})
	behind["DELETE /api/v1/agents/{id}/number"] = behind["POST /agents/{id}/unlink"]
	behind["POST /agents/{id}/delete"] = agents(func(who auth.Identity, id uuid.UUID) error {
		return f.agents.Delete(t.Context(), who.OrgID, id, true, who.Actor())
	})
	behind["DELETE /api/v1/agents/{id}"] = behind["POST /agents/{id}/delete"]
	behind["GET /caller-ids/{id}"] = func(who auth.Identity) error {
		f.keepNumber()
		_, err := f.agents.CallerID(t.Context(), who.OrgID, uuid.MustParse(callerID))
		return err
	}
	call := uuid.MustParse(callID)
	behind["GET /calls/{id}"] = func(who auth.Identity) error {
		_, err := f.deps.Calls.Call(t.Context(), who.OrgID, call)
		return err
	}
	behind["GET /calls/{id}/erase"], behind["GET /api/v1/calls/{id}"] = behind["GET /calls/{id}"], behind["GET /calls/{id}"]
	behind["POST /calls/{id}/hangup"] = func(who auth.Identity) error {
		_, err := f.deps.Calls.Hangup(t.Context(), who.OrgID, call, who.Actor())
		return err
	}
	behind["POST /api/v1/calls/{id}/hangup"] = behind["POST /calls/{id}/hangup"]
	behind["POST /calls/{id}/erase"] = func(who auth.Identity) error {
		_, err := f.deps.Calls.EraseCall(t.Context(), who.OrgID, call, who.Actor())
		return err
	}
	behind["GET /messages/{id}"] = func(who auth.Identity) error {
		_, err := f.deps.Messages.Text(t.Context(), who.OrgID, f.message)
		return err
	}
	behind["GET /messages/{id}/conversation"], behind["GET /api/v1/messages/{id}"] = behind["GET /messages/{id}"], behind["GET /messages/{id}"]
	behind["GET /caller-ids/{id}/remove"] = behind["GET /caller-ids/{id}"]
	behind["POST /caller-ids/{id}/remove"] = func(who auth.Identity) error {
		f.keepNumber()
		return f.agents.RemoveCallerID(t.Context(), who.OrgID, uuid.MustParse(callerID), who.Actor())
	}
	rules := matrix(f)
	before := f.state()
	ids := 0
	for _, rt := range handlers.Routes() {
		name := rt.Method + " " + rt.Pattern
		r, ok := rules[name]
		if !ok || !strings.Contains(rt.Pattern, "{id}") {
			continue // a route without a row fails TestAccessMatrix
		}
		ids++
		theirs := b.ask(rt, r.target(rt), r.body(f, token))
		wantStatus(t, name+" with another organisation's id", theirs, http.StatusNotFound)
		never := r
		never.id = uuid.NewString()
		nobodys := b.ask(rt, never.target(rt), r.body(f, token))
		if got, want := steady(theirs.body), strings.ReplaceAll(steady(nobodys.body), never.id, r.id); got != want || theirs.StatusCode != nobodys.StatusCode {
			t.Errorf("%s tells a row of another organisation from none:\n%s\n%s", name, got, want)
		}
		for org, want := range map[uuid.UUID]int{f.other: 0, f.org: 1} {
			if r.table == "" && rt.Access == handlers.Operator {
				break
			}
			err := f.db.InTx(t.Context(), []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
				var n int
				if err := tx.GetContext(ctx, &n, `SELECT count(*) FROM `+pq.QuoteIdentifier(r.table)+` WHERE id::text = $1`, r.id); err != nil {
					return err
				}
				if n != want {
					t.Errorf("%s: row-level security shows %d rows of %s, want %d", name, n, r.table, want)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if rt.Access == handlers.Operator {
			continue // knows no organisation: what keeps others out is the role
		}
		do, ok := behind[name]
		if !ok {
			t.Errorf("%s: name the function behind it here", name)
			continue
		}
		if err := do(foreign); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: the function behind it answers another organisation %v", name, err)
		}
	}
	f.wantUnchanged("asking for another organisation's rows", before)
	for name, do := range behind { // controls
		if err := do(mine); err != nil {
			t.Errorf("%s: the function behind it answers its own organisation %v", name, err)
		}
	}
	if ids < 5 {
		t.Errorf("only %d routes with an id were seen", ids)
	}
}

// With the handlers and every WHERE out of the way, a transaction of one organisation reads no row of another and can
// change none, in any table that carries an organisation.
func TestRowLevelSecurityAlone(t *testing.T) {
	f := newFixture(t)
	var tables []struct {
		Name      string
		Updatable string // a column that the tenants' role may write, if any
	}
	dbtest.Select(t, f.dbURL, &tables, `
		SELECT c.relname AS name, coalesce((
			SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
			AND has_column_privilege('ringfence_app', c.oid, a.attnum, 'UPDATE') LIMIT 1), '') AS updatable
		FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
		AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'org_id')
		AND has_any_column_privilege('ringfence_app', c.oid, 'SELECT') ORDER BY 1`)
	if len(tables) < 10 {
		t.Fatalf("only %d tables carry an organisation", len(tables))
	}
	for _, c := range tables {
		table := pq.QuoteIdentifier(c.Name)
		if f.count(`SELECT count(*) FROM `+table+` WHERE org_id = $1`, f.org) == 0 {
			t.Errorf("%s: the fixture has no row of Harbour Dental, so this shows nothing", c.Name)
		}
		// The same pooled connections serve both, one after the other.
		for _, turn := range []struct {
			org  uuid.UUID
			sees bool
		}{{f.org, true}, {f.other, false}, {f.org, true}, {uuid.New(), false}} {
			var n int
			err := f.db.InTx(t.Context(), []uuid.UUID{turn.org}, func(ctx context.Context, tx *db.Tx) error {
				return tx.GetContext(ctx, &n, `SELECT count(*) FROM `+table+` WHERE org_id = $1`, f.org)
			})
			if err != nil || (n > 0) != turn.sees {
				t.Errorf("%s: as %s, %d rows of Harbour Dental are seen, %v", c.Name, turn.org, n, err)
			}
		}
		if c.Updatable == "" {
			continue
		}
		column := pq.QuoteIdentifier(c.Updatable)
		err := f.db.InTx(t.Context(), []uuid.UUID{f.other}, func(ctx context.Context, tx *db.Tx) error {
			res, err := tx.ExecContext(ctx, `UPDATE `+table+` SET `+column+` = `+column+` WHERE org_id = $1`, f.org)
			if err != nil {
				return err
			}
			if n, err := res.RowsAffected(); err != nil || n != 0 {
				t.Errorf("%s: another organisation wrote %d rows, %v", c.Name, n, err)
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
}

// What changes something is refused from elsewhere even when all else is right, and then really changes nothing. (That no
// bad token passes is TestCSRF's.)
func TestForgedRequestsChangeNothing(t *testing.T) {
	f := newFixture(t)
	rules := matrix(f)
	b, token, _ := f.caller(owner)
	o, operatorToken, _ := f.caller(platform)
	mine, operators := 0, 0
	for _, rt := range handlers.Routes() {
		r, ok := rules[rt.Method+" "+rt.Pattern]
		if !ok || rt.Method == http.MethodGet || rt.Access == handlers.Webhook {
			continue
		}
		by, with := b, token
		if mine++; rt.Access == handlers.Operator {
			by, with = o, operatorToken
			operators++
		}
		name := rt.Method + " " + rt.Pattern
		before := f.state()
		for from, headers := range map[string][]string{
			"another site": {"Sec-Fetch-Site", "cross-site"}, "a sister domain": {"Sec-Fetch-Site", "same-site"},
			"another origin": {"Origin", "https://evil.example"}, "no origin": {"Origin", "null"},
		} {
			wantStatus(t, name+" from "+from, by.ask(rt, r.target(rt), r.body(f, with), headers...), http.StatusForbidden)
		}
		wantStatus(t, name+" without a token", by.ask(rt, r.target(rt), r.body(f, "")), http.StatusForbidden)
		swapped := operatorToken
		if rt.Access == handlers.Operator {
			swapped = token
		}
		wantStatus(t, name+" with somebody else's token", by.ask(rt, r.target(rt), r.body(f, swapped)), http.StatusForbidden)
		// As a GET it is no route at all, or another one that changes nothing.
		by.ask(handlers.Route{Method: http.MethodGet, Pattern: rt.Pattern}, r.target(rt)+"?"+r.body(f, with).Encode(), nil)
		f.wantUnchanged(name+", forged,", before)
	}
	if mine < 15 || operators < 2 {
		t.Errorf("only %d routes that change something were seen, %d of them operators'", mine, operators)
	}
}

// Only the methods of the table do anything. TRACE, which would send cookies back, is none of them.
func TestOtherMethods(t *testing.T) {
	f := newFixture(t)
	b, token, _ := f.caller(owner)
	rules := matrix(f)
	takes := map[string][]string{}
	for _, rt := range handlers.Routes() {
		takes[rt.Pattern] = append(takes[rt.Pattern], rt.Method)
	}
	before := f.state()
	for _, rt := range handlers.Routes() {
		r, ok := rules[rt.Method+" "+rt.Pattern]
		if !ok {
			continue
		}
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"} {
			if slices.Contains(takes[rt.Pattern], method) {
				continue
			}
			res := b.ask(handlers.Route{Method: method, Pattern: rt.Pattern}, r.target(rt), r.body(f, token))
			if res.StatusCode != http.StatusMethodNotAllowed && res.StatusCode != http.StatusNotFound {
				t.Errorf("%s %s: %s", method, rt.Pattern, res.Status)
			}
			if strings.Contains(res.body, b.cookie().Value) {
				t.Errorf("%s %s sends the cookie back", method, rt.Pattern)
			}
		}
	}
	f.wantUnchanged("a method that no route takes", before)
}

// No tenant role can tell an operators' page from one that does not exist, and what an operator does stands in the audit
// log with who, why and the request.
func TestOperatorsAlone(t *testing.T) {
	f := newFixture(t)
	rules := matrix(f)
	for _, who := range []int{viewer, member, owner, outsider, program} {
		b, token, headers := f.caller(who)
		for _, rt := range handlers.Routes() {
			if rt.Access != handlers.Operator || rt.Method != http.MethodGet {
				continue
			}
			r := rules[rt.Method+" "+rt.Pattern]
			got, nothing := b.ask(rt, r.target(rt), nil, headers...), b.get("/no/such/page", headers...)
			page := func(res reply) string { return strings.ReplaceAll(steady(res.body), token, "·") }
			if got.StatusCode != http.StatusNotFound || page(got) != page(nothing) {
				t.Errorf("the %s can tell that there is %s: %s\n%s", callerNames[who], rt.Pattern, got.Status, got.body)
			}
		}
	}
	b, token, _ := f.caller(platform)
	var id uuid.UUID
	dbtest.Get(t, f.dbURL, &id, `SELECT id FROM users WHERE email = $1`, operator)
	actions := 0
	for _, rt := range handlers.Routes() {
		if rt.Access != handlers.Operator || rt.Method == http.MethodGet {
			continue
		}
		actions++
		name := rt.Method + " " + rt.Pattern
		r := rules[name]
		f.failAgain()
		if r.ready != nil {
			r.ready()
		}
		before := f.state()
		for _, reason := range []string{"", "   "} {
			form := maps.Clone(r.body(f, token))
			form.Set("reason", reason)
			wantStatus(t, name+" without a reason", b.ask(rt, r.target(rt), form), http.StatusUnprocessableEntity)
		}
		f.wantUnchanged(name+" without a reason", before)
		res := b.ask(rt, r.target(rt), r.body(f, token))
		wantStatus(t, name, res, http.StatusSeeOther)
		org := uuid.NullUUID{UUID: f.org, Valid: !r.nobodys}
		if r.opens != "" {
			dbtest.Get(t, f.dbURL, &org, `SELECT id FROM organizations WHERE name = $1`, r.opens)
		}
		if n := f.count(`SELECT count(*) FROM audit_log WHERE actor = $1 AND reason = $2 AND request_id = $3 AND org_id IS NOT DISTINCT FROM $4`,
			"operator:"+id.String(), reasonGiven, res.Header.Get("X-Request-Id"), org); n != 1 {
			t.Errorf("%s: %d audit rows say who did it, why, and in which request; want 1", name, n)
		}
		if strings.HasSuffix(rt.Pattern, "/view") { // until it is ended, nothing else can be done
			wantStatus(t, "the end of "+name, b.post("/ops/view/end", url.Values{"csrf_token": {token}}), http.StatusSeeOther)
		}
	}
	if actions < 2 {
		t.Errorf("only %d actions of operators were seen", actions)
	}
	// The role is read anew with every request.
	dbtest.Super(t, f.dbURL, `UPDATE users SET platform_role = NULL WHERE email = $1`, operator)
	if res := b.get("/ops/stripe-events"); res.StatusCode < 300 {
		t.Errorf("a former operator still sees the events: %s", res.Status)
	}
}

// Two organisations that use the same connections and the same process read their own money only.
func TestProgramsSeeTheirOwnMoney(t *testing.T) {
	f := newFixture(t)
	var second string
	err := f.db.InTx(t.Context(), []uuid.UUID{f.other}, func(ctx context.Context, tx *db.Tx) (err error) {
		second, _, err = f.auth.CreateKey(ctx, tx, f.other, "Programs", auth.WalletRead, uuid.Nil, audit.System("test"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b := f.browser()
	for range 5 {
		for key, want := range map[string]string{f.key: `"balance_pence":61900`, second: `"balance_pence":0`} {
			res := b.get("/api/v1/wallet", "Authorization", "Bearer "+key)
			if res.StatusCode != http.StatusOK || !strings.Contains(res.body, want) {
				t.Errorf("%s %s, want %s", res.Status, res.body, want)
			}
		}
	}
}
