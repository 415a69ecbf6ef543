package sandbox

import (
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// textList is a page of messages, newest first; see https://www.twilio.com/docs/usage/twilios-response#pagination.
type textList struct {
	End             int             `json:"end"`
	FirstPageURI    string          `json:"first_page_uri"`
	Messages        []twilioMessage `json:"messages"`
	NextPageURI     *string         `json:"next_page_uri"`
	Page            int             `json:"page"`
	PageSize        int             `json:"page_size"`
	PreviousPageURI *string         `json:"previous_page_uri"`
	Start           int             `json:"start"`
	URI             string          `json:"uri"`
}

const (
	pageDefault = 50
	pageMax     = 1000
	// A page token names the message that the page begins after, or ends before.
	tokenAfter  = "PA"
	tokenBefore = "PB"
)

// The filters by the day or the time a message was sent. The latter two are written with <= and >= in a URL, so that
// the sign belongs to the name, and both include their bound.
const (
	sentOn    = "DateSent"
	sentUntil = "DateSent<"
	sentSince = "DateSent>"
)

// listTexts is https://www.twilio.com/docs/messaging/api/message-resource#read-multiple-message-resources. Messages
// that were not sent (yet) have no DateSent and are in no list that is filtered by it. A page is only had by its
// token, as the URIs of the page before and after give it.
func listTexts(t *Twilio, _ *changes, in *asked) (any, error) {
	if err := in.allow("To", "From", sentOn, sentUntil, sentSince, "PageSize", "Page", "PageToken"); err != nil {
		return nil, err
	}
	number, err := in.integer("Page", 0, 1<<30, 0)
	if err != nil {
		return nil, err
	}
	size, err := in.integer("PageSize", 1, 1<<30, pageDefault)
	if err != nil {
		return nil, err
	}
	if size > pageMax {
		return nil, twilioFail(codePageSize, "Page size must be %d or less", pageMax)
	}
	sent, err := sentFilter(in.form)
	if err != nil {
		return nil, err
	}
	to, from := in.form.Get("To"), in.form.Get("From")
	keep := func(m *sms) bool {
		return m.Account == in.account && (to == "" || m.To == to) && (from == "" || m.From == from) && sent(m)
	}
	found, more, err := t.pageOf(in, number, size, keep)
	if err != nil {
		return nil, err
	}
	uri := func(page int, token string) string {
		q := url.Values{}
		for _, name := range []string{"To", "From", sentOn, sentUntil, sentSince} {
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
	out := textList{
		Messages: make([]twilioMessage, 0, len(found)), Page: number, PageSize: size, Start: number * size,
		FirstPageURI: uri(0, ""), URI: uri(number, in.form.Get("PageToken")),
	}
	for _, m := range found {
		out.Messages = append(out.Messages, m.view())
	}
	out.End = out.Start + max(0, len(found)-1)
	if more {
		out.NextPageURI = new(uri(number+1, tokenAfter+found[len(found)-1].SID))
	}
	if number > 0 && len(found) > 0 {
		out.PreviousPageURI = new(uri(number-1, tokenBefore+found[0].SID))
	}
	return out, nil
}

// pageOf gives the messages of one page, newest first, and whether there are older ones.
func (t *Twilio) pageOf(in *asked, number, size int, keep func(*sms) bool) (found []*sms, more bool, err error) {
	token := in.form.Get("PageToken")
	if token == "" && number == 0 {
		found, more = older(t.order, size, keep)
		return found, more, nil
	}
	var cursor *sms
	if len(token) > len(tokenAfter) {
		cursor = t.find(in.account, token[len(tokenAfter):])
	}
	if cursor == nil {
		return nil, false, twilioFail(codeInvalidToken, "Invalid PageToken")
	}
	at := sort.Search(len(t.order), func(i int) bool { return t.order[i].Seq >= cursor.Seq })
	switch {
	case strings.HasPrefix(token, tokenAfter):
		found, more = older(t.order[:at], size, keep)
		return found, more, nil
	case strings.HasPrefix(token, tokenBefore):
		for _, m := range t.order[at+1:] {
			if keep(m) && len(found) < size {
				found = append(found, m)
			}
		}
		slices.Reverse(found)
		return found, true, nil
	default:
		return nil, false, twilioFail(codeInvalidToken, "Invalid PageToken")
	}
}

// older gives the last of the messages that are kept, newest first.
func older(order []*sms, size int, keep func(*sms) bool) (found []*sms, more bool) {
	for _, m := range slices.Backward(order) {
		switch {
		case !keep(m):
		case len(found) == size:
			return found, true
		default:
			found = append(found, m)
		}
	}
	return found, false
}

// sentFilter reads the three filters by DateSent: a day in UTC (2006-01-02) or, as Twilio's clients write it, a time
// (RFC 3339), of which DateSent itself takes the day.
func sentFilter(form url.Values) (func(*sms) bool, error) {
	var least, most int64 // Unix nanoseconds, both included; zero is no bound
	for _, name := range []string{sentOn, sentUntil, sentSince} {
		raw := form.Get(name)
		if raw == "" {
			continue
		}
		first, last, err := sentBounds(raw, name == sentOn)
		if err != nil {
			return nil, twilioFail(codeInvalidParameter, "Invalid %s: %s", name, raw)
		}
		if name != sentUntil {
			least = max(least, first)
		}
		if name != sentSince && (most == 0 || last < most) {
			most = last
		}
	}
	return func(m *sms) bool {
		return least == 0 && most == 0 || m.Sent != 0 && m.Sent >= least && (most == 0 || m.Sent <= most)
	}, nil
}

// sentBounds gives the first and last nanosecond that a filter's value covers.
func sentBounds(raw string, wholeDay bool) (first, last int64, err error) {
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
