package telephony

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"
)

// vapiCall is a call at Vapi, as much of it as we need (https://docs.vapi.ai/api-reference/calls/get).
type vapiCall struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Status      string `json:"status"`
	EndedReason string `json:"endedReason"`
	// StartedAt is when somebody began to speak; a call that nobody answered has none. Both are ISO 8601.
	StartedAt     string          `json:"startedAt"`
	EndedAt       string          `json:"endedAt"`
	Cost          json.RawMessage `json:"cost"`
	AssistantID   string          `json:"assistantId"`
	PhoneNumberID string          `json:"phoneNumberId"`
	Customer      struct {
		Number string `json:"number"`
	} `json:"customer"`
	Monitor struct {
		ControlURL string `json:"controlUrl"`
	} `json:"monitor"`
	// ProviderID is Twilio's name for it.
	ProviderID string       `json:"phoneCallProviderId"`
	Artifact   vapiArtifact `json:"artifact"`
	Overrides  struct {
		Metadata json.RawMessage `json:"metadata"`
	} `json:"assistantOverrides"`
}

// vapiArtifact is what remains of a call.
type vapiArtifact struct {
	Transcript   string `json:"transcript"`
	RecordingURL string `json:"recordingUrl"`
	Recording    struct {
		Mono struct {
			CombinedURL string `json:"combinedUrl"`
		} `json:"mono"`
	} `json:"recording"`
}

// recording is where the recording is, by either of the names that Vapi has for it.
func (a vapiArtifact) recording() string {
	if a.RecordingURL != "" {
		return a.RecordingURL
	}
	return a.Recording.Mono.CombinedURL
}

// ours is the id that we gave the call when we asked for it; empty for one that came in.
func (c *vapiCall) ours() string {
	if c.Name != "" {
		return c.Name
	}
	var meta map[string]json.RawMessage
	var id string
	if json.Unmarshal(c.Overrides.Metadata, &meta) != nil || json.Unmarshal(meta[metaCall], &id) != nil {
		return ""
	}
	return id
}

// moment reads one of Vapi's times; nil where there is none.
func moment(s string) *time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return nil
	}
	t = t.UTC().Truncate(time.Microsecond)
	return &t
}

// costMicros reads what Vapi charges us, a decimal of dollars, in millionths; nil where it does not say.
func costMicros(raw json.RawMessage) *int64 {
	if len(raw) > 32 { // no amount is as long, and an exponent must not be built
		return nil
	}
	d, err := decimal.NewFromString(strings.Trim(string(raw), `"`))
	if err != nil || d.IsNegative() || d.Exponent() > 6 || d.Exponent() < -30 || d.GreaterThan(decimal.NewFromInt(1_000_000)) {
		return nil
	}
	micros := d.Shift(6).Round(0).IntPart()
	return &micros
}

// vapiPlace asks for a call.
type vapiPlace struct {
	// Name is our id for it. It has room for 40 characters, and is how the call is found when Vapi's answer is lost.
	Name          string        `json:"name"`
	AssistantID   string        `json:"assistantId"`
	PhoneNumberID string        `json:"phoneNumberId"`
	Customer      vapiParty     `json:"customer"`
	Overrides     vapiOverrides `json:"assistantOverrides"`
}

type vapiParty struct {
	Number string `json:"number"`
}

// vapiOverrides are what differs from the assistant's own settings for one call.
type vapiOverrides struct {
	MaxDuration int64             `json:"maxDurationSeconds"`
	Metadata    map[string]string `json:"metadata"`
	// Model takes the place of the assistant's, tools and all.
	Model *vapiModel `json:"model,omitempty"`
}

// createCall has Vapi call somebody, once asked.
func (v *vapi) createCall(ctx context.Context, p vapiPlace) (c vapiCall, err error) {
	if err := v.do(ctx, http.MethodPost, "/call", p, &c); err != nil {
		return vapiCall{}, err
	}
	if c.ID == "" {
		return vapiCall{}, &failure{provider: "Vapi", status: http.StatusCreated} // as good as no answer
	}
	return c, nil
}

// call reads one.
func (v *vapi) call(ctx context.Context, id string) (vapiCall, error) {
	return reading(func() (c vapiCall, err error) {
		return c, v.do(ctx, http.MethodGet, "/call/"+url.PathEscape(id), nil, &c)
	})
}

// findCall looks in Vapi's list, among the calls of a phone number (empty: of all) that were made between two moments, for the
// one that we gave the id. whole is false when the list may have more. All that was said in a call stands in the list, so of a
// long time it may be more than is read of an answer.
func (v *vapi) findCall(ctx context.Context, phoneNumber string, since, until time.Time, id string) (c vapiCall, found, whole bool, err error) {
	query := url.Values{"limit": {strconv.Itoa(vapiPage)}, "createdAtGe": {since.UTC().Format(time.RFC3339)}, "createdAtLe": {until.UTC().Format(time.RFC3339)}}
	if phoneNumber != "" {
		query.Set("phoneNumberId", phoneNumber)
	}
	list, err := reading(func() (list []json.RawMessage, err error) {
		return list, v.do(ctx, http.MethodGet, "/call?"+query.Encode(), nil, &list)
	})
	if err != nil {
		return vapiCall{}, false, false, err
	}
	whole = len(list) < vapiPage
	for _, one := range list {
		var c vapiCall
		if json.Unmarshal(one, &c) != nil {
			whole = false // it may be this one
			continue
		}
		if c.ID != "" && c.ours() == id {
			return c, true, whole, nil
		}
	}
	return vapiCall{}, false, whole, nil
}

// deleteCall has Vapi forget a call: its transcript, recording and log. One that is not there is forgotten already.
func (v *vapi) deleteCall(ctx context.Context, id string) error {
	err := v.do(ctx, http.MethodDelete, "/call/"+url.PathEscape(id), nil, nil)
	if gone(err) {
		return nil
	}
	return err
}

// controllable reports whether an address at which a live call is commanded may be asked: one of Vapi's own hosts by https,
// or whatever host the API itself was configured at. It came with an answer of Vapi's, and what came with an answer is not
// where a server goes unasked.
func (v *vapi) controllable(address string) bool {
	if len(address) > 2048 {
		return false
	}
	u, err := url.Parse(address)
	if err != nil || u.User != nil || u.Opaque != "" {
		return false
	}
	api, err := url.Parse(v.base)
	if err == nil && u.Scheme == api.Scheme && u.Host == api.Host {
		return true
	}
	return u.Scheme == "https" && u.Port() == "" && strings.HasSuffix(strings.ToLower(u.Host), ".vapi.ai")
}

// endCall hangs a live call up, at the address that its answer named (https://docs.vapi.ai/calls/call-features). The key is
// not sent along: that address needs none. It is safe to repeat.
func (v *vapi) endCall(ctx context.Context, control string) error {
	if !v.controllable(control) {
		return &failure{provider: "Vapi", answer: notAsked, cause: errors.New("it gave no address at which the call can be ended")}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, control, bytes.NewReader([]byte(`{"type":"end-call"}`)))
	if err != nil {
		return errors.New("couldn't make the request to end a call")
	}
	r.Header.Set("Content-Type", "application/json")
	began := v.now()
	res, err := v.http.Do(r)
	if err != nil {
		err = withoutAddress(err)
		v.log.WarnContext(ctx, "no answer from Vapi about ending a call", "duration_us", v.now().Sub(began).Microseconds(), "error", err)
		return &failure{provider: "Vapi", cause: err}
	}
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, maxRefusal))
	err = errors.Join(err, res.Body.Close())
	v.log.InfoContext(ctx, "asked Vapi to end a call", "duration_us", v.now().Sub(began).Microseconds(), "status", res.StatusCode)
	switch {
	case res.StatusCode >= 200 && res.StatusCode < 300:
		return nil
	case err != nil:
		return &failure{provider: "Vapi", status: res.StatusCode, cause: fmt.Errorf("couldn't read the answer: %w", err)}
	}
	return &failure{provider: "Vapi", status: res.StatusCode}
}
