package telephony

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/twilio/twilio-go/client"
	api "github.com/twilio/twilio-go/rest/api/v2010"
)

// twilioTimeout bounds one request to Twilio. Its client ignores contexts.
const twilioTimeout = 10 * time.Second

// newTwilio is Twilio's own client, for the account and, where base is another place than Twilio's, sent there instead.
func newTwilio(accountSID, authToken, base string, timeout time.Duration, way Transport, log *slog.Logger, now func() time.Time) (*api.ApiService, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%q is no address for Twilio's API", base)
	}
	c := &client.Client{
		Credentials: client.NewCredentials(accountSID, authToken),
		HTTPClient: &http.Client{
			Timeout:   timeout,
			Transport: &toTwilio{scheme: u.Scheme, host: u.Host, way: way.to("twilio"), log: log, now: now},
			// The client would follow with the credentials in hand.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	c.SetAccountSid(accountSID)
	// No more of Twilio's module is imported: its root package brings the clients of all its products.
	return api.NewApiServiceWithClient(c), nil
}

// toTwilio sends the client's requests where they belong and logs each, without what it carries.
type toTwilio struct {
	scheme, host string
	way          http.RoundTripper
	log          *slog.Logger
	now          func() time.Time
}

// RoundTrip implements http.RoundTripper.
func (t *toTwilio) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	r = r.Clone(ctx)
	r.URL.Scheme, r.URL.Host, r.Host = t.scheme, t.host, t.host
	began := t.now()
	res, err := t.way.RoundTrip(r)
	attrs := []any{"method", r.Method, "path", r.URL.Path, "duration_us", t.now().Sub(began).Microseconds()}
	if err != nil {
		t.log.WarnContext(ctx, "no answer from Twilio", append(attrs, "error", err)...)
		return nil, err
	}
	level := slog.LevelInfo
	if strings.HasSuffix(r.URL.Path, "/Balance.json") { // a probe, every few seconds
		level = slog.LevelDebug
	}
	t.log.Log(ctx, level, "asked Twilio", append(attrs, "status", res.StatusCode, "twilio_request_id", res.Header.Get("Twilio-Request-Id"))...)
	if res.StatusCode < http.StatusBadRequest {
		return res, nil
	}
	// The client reads a refusal and does not close it, which would cost a connection each time.
	said, err := io.ReadAll(io.LimitReader(res.Body, maxRefusal))
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return nil, fmt.Errorf("couldn't read Twilio's refusal: %w", err)
	}
	res.Body = io.NopCloser(bytes.NewReader(said))
	return res, nil
}

// maxRefusal bounds what is read of a refusal, in bytes.
const maxRefusal = 64 << 10

// answer is what became of asking Twilio to send.
type answer uint8

const (
	unknown  answer = iota // it may have been sent: only Twilio's list tells
	accepted               // Twilio has it
	rejected               // Twilio will not send it, and has not
	notAsked               // it was surely not sent, and may be later
)

// judge says what an error of creating a message means. Only what Twilio says itself counts, with a code of its own: a
// status alone may be of something between us, which does not know what Twilio did.
func judge(err error) (a answer, code int) {
	if err == nil {
		return accepted, 0
	}
	if said, ok := errors.AsType[*client.TwilioRestError](err); ok {
		switch {
		case said.Code == 0 || said.Status < 400 || said.Status >= 500:
			return unknown, said.Code
		case said.Code < firstOfTexts || said.Code == codeQueueFull:
			return notAsked, said.Code
		}
		return rejected, said.Code
	}
	if undialled(err) {
		return notAsked, 0
	}
	return unknown, 0
}

// sentence says why Twilio refused, or could not deliver (https://www.twilio.com/docs/api/errors).
func sentence(code int) string {
	switch code {
	case 0:
		return "The network did not say why."
	case 21211, 21614, 30006:
		return "This number cannot receive texts. Check it, or use a mobile number."
	case 21212, 21606, 21659:
		return "Our sender cannot send texts to this number."
	case 21408, 21612:
		return "Texts cannot be sent to this country or network."
	case 21610:
		return "This person has asked not to receive texts from this sender."
	case 21617:
		return "The text is too long."
	case 30003:
		return "The phone was switched off or out of reach."
	case 30004:
		return "The message was blocked by the recipient's network."
	case 30005:
		return "This number is not in use."
	case 30007:
		return "The network took the text for spam."
	case 30008:
		return "The network could not deliver it and did not say why."
	}
	return "The network refused it (code " + strconv.Itoa(code) + ")."
}

const (
	// codeOptedOut is Twilio's word for a recipient who sent STOP to the sender.
	codeOptedOut = 21610
	// codeCredential says that the account does not take the token.
	codeCredential = 20003
	// codeQueueFull says that the sender has too many texts waiting: a later one may go out.
	codeQueueFull = 21611
	// firstOfTexts is the first code about what is to be sent. Those below are about us: our credentials, our account, how
	// much we ask at once.
	firstOfTexts = 21000
)
