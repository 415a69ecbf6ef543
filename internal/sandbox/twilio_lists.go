package sandbox

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// listRow is something that lists show.
type listRow interface {
	sequence() uint64
	id() string
}

// listed is a list of resources, newest first; see https://www.twilio.com/docs/usage/twilios-response#pagination.
type listed[R listRow] struct {
	// key is the field that the rows stand in.
	key string
	// order are all rows there are, by their sequence, rising.
	order []R
	// visible says which of them belong to the list, keep which of those the filters let pass.
	visible, keep func(R) bool
	view          func(R) any
}

const (
	pageDefault = 50
	pageMax     = 1000
	// A page token names the row that the page begins after, or ends before.
	tokenAfter  = "PA"
	tokenBefore = "PB"
)

// pagedBy gives the parameters of a list: its filters and those of its pages.
func pagedBy(filters ...string) []string { return append(filters, "PageSize", "Page", "PageToken") }

// pageSize reads how many rows a page may have.
func (in *asked) pageSize() (int, error) {
	size, err := in.integer("PageSize", 1, 1<<30, pageDefault)
	if err == nil && size > pageMax {
		err = twilioFail(codePageSize, "Page size must be %d or less", pageMax)
	}
	return size, err
}

// page gives the page that was asked for. A page is only had by its token, as the URIs of the page before and after
// give it; these repeat the filters.
func (l listed[R]) page(in *asked, filters ...string) (any, error) {
	number, err := in.integer("Page", 0, 1<<30, 0)
	if err != nil {
		return nil, err
	}
	size, err := in.pageSize()
	if err != nil {
		return nil, err
	}
	found, more, err := l.rows(in.form.Get("PageToken"), number, size)
	if err != nil {
		return nil, err
	}
	uri := func(page int, token string) string {
		q := url.Values{}
		for _, name := range filters {
			if v := in.form.Get(name); v != "" {
				q.Set(name, v)
			}
		}
		q.Set("PageSize", strconv.Itoa(size))
		q.Set("Page", strconv.Itoa(page))
		if token != "" {
			q.Set("PageToken", token)
		}
		return in.path + "?" + q.Encode()
	}
	views := make([]any, 0, len(found))
	for _, r := range found {
		views = append(views, l.view(r))
	}
	out := map[string]any{
		l.key: views, "page": number, "page_size": size, "start": number * size,
		"end": number*size + max(0, len(found)-1), "first_page_uri": uri(0, ""),
		"uri": uri(number, in.form.Get("PageToken")), "next_page_uri": nil, "previous_page_uri": nil,
	}
	if more {
		out["next_page_uri"] = uri(number+1, tokenAfter+found[len(found)-1].id())
	}
	if number > 0 && len(found) > 0 {
		out["previous_page_uri"] = uri(number-1, tokenBefore+found[0].id())
	}
	return out, nil
}

// rows gives the rows of one page, newest first, and whether there are older ones.
func (l listed[R]) rows(token string, number, size int) (found []R, more bool, err error) {
	if token == "" && number == 0 {
		found, more = l.older(l.order, size)
		return found, more, nil
	}
	at := -1
	if len(token) > len(tokenAfter) {
		at = slices.IndexFunc(l.order, func(r R) bool { return r.id() == token[len(tokenAfter):] && l.visible(r) })
	}
	switch {
	case at >= 0 && strings.HasPrefix(token, tokenAfter):
		found, more = l.older(l.order[:at], size)
		return found, more, nil
	case at >= 0 && strings.HasPrefix(token, tokenBefore):
		for _, r := range l.order[at+1:] {
			if l.visible(r) && l.keep(r) && len(found) < size {
				found = append(found, r)
			}
		}
		slices.Reverse(found)
		return found, true, nil
	default:
		return nil, false, twilioFail(codeInvalidToken, "Invalid PageToken")
	}
}

// older gives the last of the rows that are kept, newest first.
func (l listed[R]) older(order []R, size int) (found []R, more bool) {
	for _, r := range slices.Backward(order) {
		switch {
		case !l.visible(r) || !l.keep(r):
		case len(found) == size:
			return found, true
		default:
			found = append(found, r)
		}
	}
	return found, false
}

// The filters by the day or the time a message was sent. The latter two are written with <= and >= in a URL, so that
// the sign belongs to the name, and both include their bound.
const (
	sentOn    = "DateSent"
	sentUntil = "DateSent<"
	sentSince = "DateSent>"
)

// listTexts is https://www.twilio.com/docs/messaging/api/message-resource#read-multiple-message-resources. Messages
// that were not sent (yet) have no DateSent and are in no list that is filtered by it.
func listTexts(t *Twilio, _ *changes, in *asked) (any, error) {
	filters := []string{"To", "From", sentOn, sentUntil, sentSince}
	if err := in.allow(pagedBy(filters...)...); err != nil {
		return nil, err
	}
	sent, err := timeFilter(in.form, sentOn)
	if err != nil {
		return nil, err
	}
	to, from := in.form.Get("To"), in.form.Get("From")
	return listed[*sms]{
		key: "messages", order: t.order,
		visible: func(m *sms) bool { return m.Account == in.account },
		keep: func(m *sms) bool {
			return (to == "" || m.To == to) && (from == "" || m.From == from) && sent(m.Sent)
		},
		view: func(m *sms) any { return m.view() },
	}.page(in, filters...)
}

// timeFilter reads the three filters by a time (Unix nanoseconds; zero is never): a day in UTC (2006-01-02) or, as
// Twilio's clients write it, a time (RFC 3339), of which the filter without a sign takes the day.
func timeFilter(form url.Values, on string) (func(nanoseconds int64) bool, error) {
	var least, most int64 // both included; zero is no bound
	for _, name := range []string{on, on + "<", on + ">"} {
		raw := form.Get(name)
		if raw == "" {
			continue
		}
		first, last, err := timeBounds(raw, name == on)
		if err != nil {
			return nil, twilioFail(codeInvalidParameter, "Invalid %s: %s", name, raw)
		}
		if name != on+"<" {
			least = max(least, first)
		}
		if name != on+">" && (most == 0 || last < most) {
			most = last
		}
	}
	return func(at int64) bool {
		return least == 0 && most == 0 || at != 0 && at >= least && (most == 0 || at <= most)
	}, nil
}

// timeBounds gives the first and last nanosecond that a filter's value covers.
func timeBounds(raw string, wholeDay bool) (first, last int64, err error) {
	at, err := time.Parse(time.DateOnly, raw)
	if err != nil {
		if at, err = time.Parse(time.RFC3339, raw); err != nil {
			return 0, 0, err
		}
		if !wholeDay {
			// Twilio's times have seconds.
			return at.UnixNano(), at.Add(time.Second - 1).UnixNano(), nil
		}
		at = at.UTC().Truncate(24 * time.Hour)
	}
	return at.UnixNano(), at.AddDate(0, 0, 1).UnixNano() - 1, nil
}
