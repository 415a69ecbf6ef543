package telephony

import "net/http"

// Transport gives the way to a provider, "twilio" or "vapi"; nil is Go's own.
type Transport func(provider string) http.RoundTripper

func (t Transport) to(provider string) http.RoundTripper {
	if t == nil {
		return http.DefaultTransport
	}
	return t(provider)
}
