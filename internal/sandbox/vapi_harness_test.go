package sandbox_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	openapi "github.com/twilio/twilio-go/rest/api/v2010"

	"ringfence/internal/sandbox"
)

const (
	vapiKey    = "7420f27a-30fd-4f49-a995-5549ae7cc00d"
	vapiSecret = "a-secret-between-vapi-and-us"
)

// object is JSON of any shape.
type object = map[string]any

// withVapi switches Vapi on, beside Twilio.
func withVapi(o *sandbox.Options) {
	withTwilio(o)
	o.VapiAPIKey, o.VapiWebhookSecret = vapiKey, vapiSecret
}

// agency is a sandbox with Twilio, a subaccount with a number, and Vapi.
type agency struct {
	*phone

	vapi   *sandbox.Vapi
	sub    *subaccount
	number string
	client *http.Client
}

func startVapi(t *testing.T, change ...func(*sandbox.Options)) *agency {
	t.Helper()
	p := startTwilio(t, append([]func(*sandbox.Options){withVapi}, change...)...)
	a := &agency{phone: p, vapi: p.Vapi(), client: &http.Client{Timeout: time.Minute}}
	a.sub = p.subaccount("Harbour Dental")
	a.number = a.sub.buy("+14155552671")
	return a
}

// ask makes a request to Vapi's API, and gives its status and what it answered.
func (a *agency) ask(method, path string, body any) (int, object) {
	a.t.Helper()
	status, raw, err := a.try(method, path, vapiKey, body)
	if err != nil {
		a.t.Fatal(err)
	}
	var out object
	if err := json.Unmarshal(raw, &out); err != nil {
		a.t.Fatalf("%s %s: %s", method, path, raw)
	}
	return status, out
}

// list is ask for what answers with a list.
func (a *agency) list(path string) []object {
	a.t.Helper()
	status, raw, err := a.try(http.MethodGet, path, vapiKey, nil)
	var out []object
	if err != nil || status != http.StatusOK || json.Unmarshal(raw, &out) != nil {
		a.t.Fatalf("%s: %v %d %s", path, err, status, raw)
	}
	return out
}

func (a *agency) try(method, path, key string, body any) (status int, answer []byte, err error) {
	var raw []byte
	if body != nil {
		if raw, err = json.Marshal(body); err != nil {
			return 0, nil, err
		}
	}
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.URL()+"/vapi"+path, bytes.NewReader(raw))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(resp.Body)
	return resp.StatusCode, b.Bytes(), err
}

// makes is ask for what has to be made.
func (a *agency) makes(path string, body any) object {
	a.t.Helper()
	status, out := a.ask(http.MethodPost, path, body)
	if status != http.StatusCreated {
		a.t.Fatalf("POST %s: %d %v", path, status, out)
	}
	return out
}

// imported is the body that imports the number.
func (a *agency) imported(pairs ...any) object {
	return merge(object{
		"provider": "twilio", "number": a.number, "twilioAccountSid": a.sub.sid, "twilioAuthToken": a.sub.token, "smsEnabled": false,
	}, pairs...)
}

// merge sets pairs of name and value.
func merge(o object, pairs ...any) object {
	for i := 0; i < len(pairs); i += 2 {
		o[fmt.Sprint(pairs[i])] = pairs[i+1]
	}
	return o
}

// assistant makes an assistant with a model and a function to call.
func (a *agency) assistant(pairs ...any) object {
	a.t.Helper()
	return a.makes("/assistant", merge(object{
		"name": "Front desk", "firstMessage": "Hello, Harbour Dental.", "maxDurationSeconds": 300,
		"model": object{
			"provider": "openai", "model": "gpt-4o", "messages": []object{{"role": "system", "content": "You answer the phone."}},
			"tools": []object{{"type": "function", "function": object{
				"name": "search_knowledge", "description": "Looks things up.",
				"parameters": object{"type": "object", "properties": object{"query": object{"type": "string"}}},
			}}, {"type": "endCall"}},
		},
		"voice": object{"provider": "vapi", "voiceId": "Elliot"},
	}, pairs...))
}

// atTwilio gives the number as Twilio has it.
func (a *agency) atTwilio() *openapi.ApiV2010IncomingPhoneNumber {
	a.t.Helper()
	found, err := a.sub.api.ListIncomingPhoneNumber(nil)
	if err != nil || len(found) != 1 {
		a.t.Fatalf("%v, %d found", err, len(found))
	}
	return &found[0]
}

func (a *agency) vapiFaults(rules ...sandbox.Fault) {
	a.t.Helper()
	if err := a.vapi.SetFaults(rules...); err != nil {
		a.t.Fatal(err)
	}
}
