package handlers_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"ringfence/internal/telephony"
)

// Vapi's messages are taken from Vapi alone, whole and bounded; what is nobody's is answered and changes nothing.
func TestVapiWebhook(t *testing.T) {
	f := newFixture(t)
	b := f.browser()
	status := func(message string) string {
		return `{"message":{"type":"status-update","status":"in-progress","call":{"id":"` + message + `"}}}`
	}
	before := f.state()
	for what, c := range map[string]struct {
		authorization []string
		body          string
		status        int
		answer        string
	}{
		"genuine":            {[]string{"Bearer " + vapiSecret}, `{"message":{"type":"hang","call":{"id":"x"}}}`, http.StatusOK, "{}"},
		"of no call":         {[]string{"Bearer " + vapiSecret}, status(uuid.NewString()), http.StatusNotFound, "There is no such call."},
		"who answers":        {[]string{"Bearer " + vapiSecret}, `{"message":{"type":"assistant-request","call":{"id":"c1","phoneNumberId":"v0"}}}`, http.StatusOK, `"error":"This number is not in use."`},
		"another kind":       {[]string{"Bearer " + vapiSecret}, `{"message":{"type":"speech-update"}}`, http.StatusOK, "{}"},
		"no secret":          {nil, status("x"), http.StatusUnauthorized, ""},
		"a wrong one":        {[]string{"Bearer wrong"}, status("x"), http.StatusUnauthorized, ""},
		"another scheme":     {[]string{"Basic " + vapiSecret}, status("x"), http.StatusUnauthorized, ""},
		"an API key of ours": {[]string{"Bearer " + f.key}, status("x"), http.StatusUnauthorized, ""},
		"twice":              {[]string{"Bearer " + vapiSecret, "Bearer " + vapiSecret}, status("x"), http.StatusUnauthorized, ""},
		"no JSON":            {[]string{"Bearer " + vapiSecret}, "hello", http.StatusBadRequest, ""},
		"no message":         {[]string{"Bearer " + vapiSecret}, "{}", http.StatusBadRequest, ""},
		"too large":          {[]string{"Bearer " + vapiSecret}, strings.Repeat(" ", telephony.MaxVapiMessage+1), http.StatusRequestEntityTooLarge, ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.URL+telephony.WebhookPath, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header["Authorization"] = c.authorization
		req.Header.Set("Content-Type", "application/json")
		res, err := b.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(res.Body)
		if err = errors.Join(err, res.Body.Close()); err != nil {
			t.Fatal(err)
		}
		answer := string(raw)
		if res.StatusCode != c.status || !strings.Contains(answer, c.answer) {
			t.Errorf("%s: %s, %s", what, res.Status, answer)
		}
		if strings.Contains(answer, vapiSecret) {
			t.Errorf("%s: the secret comes back", what)
		}
	}
	f.wantUnchanged("what is nobody's", before)
	if strings.Contains(f.log.String(), vapiSecret) {
		t.Error("the secret is in the log")
	}
}
