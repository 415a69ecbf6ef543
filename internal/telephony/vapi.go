package telephony

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// maxVapiAnswer bounds what is read of an answer, in bytes: a page of its list is far smaller.
	maxVapiAnswer = 8 << 20
	// vapiPage is how many things a page of a list has at most (https://docs.vapi.ai/api-reference/phone-numbers/list).
	vapiPage = 1000
)

// vapi is Vapi's API (https://docs.vapi.ai/api-reference), as much of it as we need: there is no client of Vapi's own that
// could be had as a module. A method a resource; whatever goes wrong is a *failure that says what is known.
type vapi struct {
	base, key string
	http      *http.Client
	log       *slog.Logger
	now       func() time.Time
}

// newVapi makes the client. Redirects are not followed: they would carry the key along.
func newVapi(base, key string, timeout time.Duration, way Transport, log *slog.Logger, now func() time.Time) (*vapi, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%q is no address for Vapi's API", base)
	}
	return &vapi{base: strings.TrimSuffix(base, "/"), key: key, log: log, now: now, http: &http.Client{
		Timeout:       timeout,
		Transport:     way.to("vapi"),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// vapiNumber is a phone number at Vapi (https://docs.vapi.ai/api-reference/phone-numbers/get).
type vapiNumber struct {
	ID         string `json:"id,omitempty"`
	Provider   string `json:"provider,omitempty"`
	Number     string `json:"number,omitempty"`
	Name       string `json:"name,omitempty"`
	AccountSID string `json:"twilioAccountSid,omitempty"`
	// AuthToken is only ever sent.
	AuthToken string `json:"twilioAuthToken,omitempty"`
	// AssistantID is who answers it; empty for nobody.
	AssistantID string `json:"assistantId,omitempty"`
	// SMSEnabled is sent as false: by default Vapi takes a number's texts to itself.
	SMSEnabled *bool `json:"smsEnabled,omitempty"`
	// Server is who is asked who answers it, and told about its calls.
	Server    *vapiServer `json:"server,omitempty"`
	CreatedAt string      `json:"createdAt,omitempty"`
}

// importNumber has Vapi answer a number of Twilio's, once asked, by asking server who takes each call. name has at most 40
// characters.
func (v *vapi) importNumber(ctx context.Context, number, name string, of account, server *vapiServer) (id string, err error) {
	var made vapiNumber
	err = v.do(ctx, http.MethodPost, "/phone-number", vapiNumber{
		Provider: providerTwilio, Number: number, Name: name, AccountSID: of.sid, AuthToken: of.token, SMSEnabled: new(false), Server: server,
	}, &made)
	if err != nil {
		return "", err
	}
	if made.ID == "" {
		return "", &failure{provider: "Vapi", status: http.StatusCreated} // as good as no answer
	}
	return made.ID, nil
}

// number reads one.
func (v *vapi) number(ctx context.Context, id string) (n vapiNumber, err error) {
	return reading(func() (vapiNumber, error) {
		var n vapiNumber
		return n, v.do(ctx, http.MethodGet, "/phone-number/"+url.PathEscape(id), nil, &n)
	})
}

// changeNumber changes what is set of a number's name, assistant and account. It is safe to repeat.
func (v *vapi) changeNumber(ctx context.Context, id string, change map[string]any) (n vapiNumber, err error) {
	return n, v.do(ctx, http.MethodPatch, "/phone-number/"+url.PathEscape(id), change, &n)
}

// changeToken gives Vapi the account that a number is in, with its token. It is safe to repeat.
func (v *vapi) changeToken(ctx context.Context, id string, of account) error {
	_, err := v.changeNumber(ctx, id, map[string]any{"twilioAccountSid": of.sid, "twilioAuthToken": of.token, "smsEnabled": false})
	return err
}

// deleteNumber removes a number. One that is not there is removed already.
func (v *vapi) deleteNumber(ctx context.Context, id string) error {
	err := v.do(ctx, http.MethodDelete, "/phone-number/"+url.PathEscape(id), nil, nil)
	if gone(err) {
		return nil
	}
	return err
}

// numbers lists all of them, the newest first.
func (v *vapi) numbers(ctx context.Context) (all []vapiNumber, err error) {
	before := ""
	for {
		query := url.Values{"limit": {strconv.Itoa(vapiPage)}}
		if before != "" {
			query.Set("createdAtLt", before)
		}
		page, err := reading(func() (page []vapiNumber, err error) {
			return page, v.do(ctx, http.MethodGet, "/phone-number?"+query.Encode(), nil, &page)
		})
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < vapiPage || page[len(page)-1].CreatedAt == before {
			return all, nil
		}
		before = page[len(page)-1].CreatedAt
	}
}

// findNumbers gives those of Vapi's that are a number in an account: one, none, or after a lost answer more than one.
func (v *vapi) findNumbers(ctx context.Context, number, accountSID string) (found []vapiNumber, err error) {
	all, err := v.numbers(ctx)
	for _, n := range all {
		if n.Number == number && (n.AccountSID == accountSID || n.AccountSID == "") {
			found = append(found, n)
		}
	}
	return found, err
}

// do asks Vapi for one thing. Logged is which, and what came of it, never what was sent or said.
func (v *vapi) do(ctx context.Context, method, path string, body, into any) error {
	var reader io.Reader = http.NoBody
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("couldn't write the request to Vapi: %w", err)
		}
		reader = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, v.base+path, reader)
	if err != nil {
		return errors.New("couldn't make the request to Vapi")
	}
	r.Header.Set("Authorization", "Bearer "+v.key)
	r.Header.Set("Accept", "application/json")
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	began := v.now()
	attrs := []any{"method", method, "path", r.URL.Path}
	res, err := v.http.Do(r)
	if err != nil {
		f := &failure{provider: "Vapi", cause: withoutAddress(err)}
		if undialled(err) {
			f.answer = notAsked
		}
		v.log.WarnContext(ctx, "no answer from Vapi", append(attrs, "duration_us", v.now().Sub(began).Microseconds(), "error", f.cause)...)
		return f
	}
	said, err := io.ReadAll(io.LimitReader(res.Body, maxVapiAnswer))
	err = errors.Join(err, res.Body.Close())
	level := slog.LevelInfo
	if path == probePath { // every few seconds
		level = slog.LevelDebug
	}
	v.log.Log(ctx, level, "asked Vapi", append(attrs, "duration_us", v.now().Sub(began).Microseconds(), "status", res.StatusCode)...)
	if err != nil {
		return &failure{provider: "Vapi", status: res.StatusCode, cause: fmt.Errorf("couldn't read the answer: %w", err)}
	}
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		if into == nil {
			return nil
		}
		if json.Unmarshal(said, into) != nil {
			return &failure{provider: "Vapi", status: res.StatusCode, cause: errors.New("the answer is no JSON of the kind expected")}
		}
		return nil
	}
	return vapiFailure(res.StatusCode, said)
}

// vapiFailure says what a refusal of Vapi's means. Only its own words count, {"message", "error"} and mostly "statusCode": a
// status alone may be of something between us, which does not know what Vapi did.
func vapiFailure(status int, said []byte) error {
	f := &failure{provider: "Vapi", status: status}
	var own struct {
		Message    any    `json:"message"`
		Error      string `json:"error"`
		StatusCode int    `json:"statusCode"`
	}
	if json.Unmarshal(said, &own) != nil || own.Message == nil || own.Error == "" || own.StatusCode != 0 && own.StatusCode != status {
		return f
	}
	f.code = status
	switch {
	case status == http.StatusUnauthorized, status == http.StatusPaymentRequired, status == http.StatusForbidden, status == http.StatusTooManyRequests:
		f.answer = notAsked // about us: our key, our plan, how much we ask
	case status >= 400 && status < 500:
		f.answer = rejected
	}
	return f
}
