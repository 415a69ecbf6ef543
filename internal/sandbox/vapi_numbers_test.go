package sandbox_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	openapi "github.com/twilio/twilio-go/rest/api/v2010"

	"ringfence/internal/sandbox"
)

func TestImportNumber(t *testing.T) {
	a := startVapi(t)
	if _, err := a.sub.api.UpdateIncomingPhoneNumber(*a.atTwilio().Sid, (&openapi.UpdateIncomingPhoneNumberParams{}).SetSmsUrl("https://shop.example/sms")); err != nil {
		t.Fatal(err)
	}
	got := a.makes("/phone-number", a.imported("name", "Harbour Dental"))
	id, _ := got["id"].(string)
	for name, want := range map[string]any{
		"provider": "twilio", "number": a.number, "twilioAccountSid": a.sub.sid, "name": "Harbour Dental", "smsEnabled": false, "status": "active",
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if _, err := time.Parse("2006-01-02T15:04:05.000Z", fmt.Sprint(got["createdAt"])); err != nil || len(id) != 36 || got["orgId"] == nil {
		t.Errorf("%v", got)
	}
	// Calls go to Vapi from now on; texts stay where they were.
	if n := a.atTwilio(); *n.VoiceUrl != a.URL()+"/vapi/twilio/inbound_call" || *n.SmsUrl != "https://shop.example/sms" {
		t.Errorf("%s, %s", *n.VoiceUrl, *n.SmsUrl)
	}
	if status, again := a.ask(http.MethodPost, "/phone-number", a.imported()); status != http.StatusBadRequest || again["statusCode"] != 400.0 || again["error"] != "Bad Request" {
		t.Errorf("imported twice: %d %v", status, again)
	}
	if status, one := a.ask(http.MethodGet, "/phone-number/"+id, nil); status != http.StatusOK || one["number"] != a.number {
		t.Errorf("%d %v", status, one)
	}
	// An assistant is linked and unlinked.
	assistant := a.assistant()
	if status, one := a.ask(http.MethodPatch, "/phone-number/"+id, object{"assistantId": assistant["id"], "name": "Desk"}); status != http.StatusOK ||
		one["assistantId"] != assistant["id"] || one["name"] != "Desk" {
		t.Errorf("%d %v", status, one)
	}
	if status, pinned := a.ask(http.MethodDelete, fmt.Sprint("/assistant/", assistant["id"]), nil); status != http.StatusConflict || pinned["error"] != "assistant_pinned" {
		t.Errorf("%d %v", status, pinned)
	}
	if status, one := a.ask(http.MethodPatch, "/phone-number/"+id, object{"assistantId": nil}); status != http.StatusOK || one["assistantId"] != nil || one["name"] != "Desk" {
		t.Errorf("%d %v", status, one)
	}
	if status, gone := a.ask(http.MethodDelete, fmt.Sprint("/assistant/", assistant["id"]), nil); status != http.StatusOK || gone["id"] != assistant["id"] {
		t.Errorf("%d %v", status, gone)
	}
	if status, gone := a.ask(http.MethodDelete, "/phone-number/"+id, nil); status != http.StatusOK || gone["id"] != id || gone["number"] != a.number {
		t.Errorf("%d %v", status, gone)
	}
	for _, method := range []string{http.MethodDelete, http.MethodGet, http.MethodPatch} {
		if status, gone := a.ask(method, "/phone-number/"+id, nil); status != http.StatusNotFound || gone["statusCode"] != 404.0 {
			t.Errorf("%s after deletion: %d %v", method, status, gone)
		}
	}
	// Deleted numbers can be imported again; the books know both.
	a.makes("/phone-number", a.imported())
	if b := a.vapi.Books(); b.Imports != (sandbox.Creations{Asked: 3, Made: 2}) || len(b.Imported()) != 1 || len(b.Numbers) != 2 || b.Numbers[0].Deleted.IsZero() {
		t.Errorf("%+v", b)
	}
}

func TestTextsAreTakenToo(t *testing.T) {
	a := startVapi(t)
	body := a.imported()
	delete(body, "smsEnabled")
	got := a.makes("/phone-number", body)
	if n := a.atTwilio(); got["smsEnabled"] != true || *n.SmsUrl != a.URL()+"/vapi/twilio/sms" {
		t.Errorf("%v, %s", got, *n.SmsUrl)
	}
}

func TestNumbersThatAreNotImported(t *testing.T) {
	a := startVapi(t)
	other := a.subaccount("Another")
	for name, c := range map[string]struct {
		body object
		says string
	}{
		"nothing":              {object{}, "provider must be one of"},
		"another provider":     {a.imported("provider", "vonage"), "provider must be one of"},
		"no number":            {a.imported("number", nil), "number must be a valid phone number"},
		"a wrong token":        {a.imported("twilioAuthToken", testToken), "Number Not Found on Twilio"},
		"another account":      {a.imported("twilioAccountSid", other.sid, "twilioAuthToken", other.token), "Number Not Found on Twilio"},
		"the parent's":         {a.imported("twilioAccountSid", testAccount, "twilioAuthToken", testToken), "Number Not Found on Twilio"},
		"somebody's number":    {a.imported("number", "+14155552672"), "Number Not Found on Twilio"},
		"a long name":          {a.imported("name", strings.Repeat("x", 41)), "name must be shorter than or equal to 40 characters"},
		"an unknown assistant": {a.imported("assistantId", "7420f27a-30fd-4f49-a995-5549ae7cc00d"), "Couldn't Find Assistant"},
		"no assistant":         {a.imported("assistantId", "x"), "assistantId must be a UUID"},
		"a strange property":   {a.imported("colour", "red"), "property colour should not exist"},
		"a server without URL": {a.imported("server", object{"url": "x", "secret": "y"}), "server.property secret should not exist"},
	} {
		status, e := a.ask(http.MethodPost, "/phone-number", c.body)
		if status != http.StatusBadRequest || e["statusCode"] != 400.0 || e["error"] != "Bad Request" || !strings.Contains(fmt.Sprint(e["message"]), c.says) {
			t.Errorf("%s: %d %v", name, status, e)
		}
	}
	if _, isList := func() (any, bool) {
		_, e := a.ask(http.MethodPost, "/phone-number", object{})
		l, ok := e["message"].([]any)
		return l, ok
	}(); !isList {
		t.Error("faults of a body are no list")
	}
	if n := a.atTwilio(); *n.VoiceUrl != "" || len(a.vapi.Books().Numbers) != 0 {
		t.Errorf("%s", *n.VoiceUrl)
	}
	for name, key := range map[string]string{"a wrong key": "x" + vapiKey, "none": ""} {
		status, raw, err := a.try(http.MethodGet, "/phone-number", key, nil)
		if err != nil || status != http.StatusUnauthorized || !strings.Contains(string(raw), `"statusCode": 401`) {
			t.Errorf("%s: %d %s", name, status, raw)
		}
	}
	if status, e := a.ask(http.MethodGet, "/squad", nil); status != http.StatusNotFound || e["message"] != "Cannot GET /squad" {
		t.Errorf("%d %v", status, e)
	}
	off := startTwilio(t)
	if status, _, _ := off.page("/vapi/phone-number"); status != http.StatusNotFound || off.Vapi() != nil {
		t.Errorf("Vapi is on without a key: %d", status)
	}
}

func TestAssistants(t *testing.T) {
	a := startVapi(t)
	one := a.assistant()
	id := fmt.Sprint(one["id"])
	model, _ := one["model"].(object)
	if one["name"] != "Front desk" || one["maxDurationSeconds"] != 300.0 || model["model"] != "gpt-4o" {
		t.Errorf("%v", one)
	}
	status, changed := a.ask(http.MethodPatch, "/assistant/"+id, object{
		"firstMessage": "Good morning.", "voice": nil,
		"server":       object{"url": "http://127.0.0.1:1/vapi", "headers": object{"Authorization": "Bearer x"}, "timeoutSeconds": 5},
		"artifactPlan": object{"recordingEnabled": false},
	})
	if status != http.StatusOK || changed["firstMessage"] != "Good morning." || changed["voice"] != nil || changed["name"] != "Front desk" ||
		changed["updatedAt"] == nil {
		t.Errorf("%d %v", status, changed)
	}
	if status, got := a.ask(http.MethodGet, "/assistant/"+id, nil); status != http.StatusOK || got["firstMessage"] != "Good morning." {
		t.Errorf("%d %v", status, got)
	}
	for name, c := range map[string]struct {
		body object
		says string
	}{
		"too short":           {object{"maxDurationSeconds": 9}, "maxDurationSeconds must not be less than 10"},
		"too long":            {object{"maxDurationSeconds": 43_201}, "maxDurationSeconds must not be greater than 43200"},
		"no number":           {object{"maxDurationSeconds": "60"}, "maxDurationSeconds must be a number"},
		"a long name":         {object{"name": strings.Repeat("x", 41)}, "name must be shorter"},
		"half a model":        {object{"model": object{"provider": "openai"}}, "model.model must be a string"},
		"a bad role":          {object{"model": object{"provider": "openai", "model": "x", "messages": []object{{"role": "boss"}}}}, "model.messages.0.role must be one of"},
		"a nameless tool":     {object{"model": object{"provider": "openai", "model": "x", "tools": []object{{"type": "function", "function": object{}}}}}, "function.name must be a string"},
		"an old switch":       {object{"endCallFunctionEnabled": true}, "property endCallFunctionEnabled should not exist"},
		"a voice of nobody's": {object{"voice": object{"voiceId": "x"}}, "voice.provider must be a string"},
	} {
		if status, e := a.ask(http.MethodPost, "/assistant", c.body); status != http.StatusBadRequest || !strings.Contains(fmt.Sprint(e["message"]), c.says) {
			t.Errorf("%s: %d %v", name, status, e)
		}
	}
	second := a.assistant("name", "Second")
	if got := a.list("/assistant"); len(got) != 2 || got[0]["id"] != second["id"] || got[1]["id"] != id {
		t.Errorf("%v", got)
	}
	if got := a.list("/assistant?limit=1"); len(got) != 1 {
		t.Errorf("%v", got)
	}
	if status, _ := a.ask(http.MethodGet, "/assistant?limit=1001", nil); status != http.StatusBadRequest {
		t.Errorf("%d", status)
	}
	if status, gone := a.ask(http.MethodDelete, "/assistant/"+id, nil); status != http.StatusOK || gone["id"] != id {
		t.Errorf("%d %v", status, gone)
	}
	if status, _ := a.ask(http.MethodGet, "/assistant/"+id, nil); status != http.StatusNotFound {
		t.Errorf("%d", status)
	}
	if got := a.list("/assistant"); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

func TestListsByTime(t *testing.T) {
	ck := newClock()
	a := startVapi(t, func(o *sandbox.Options) { o.Now = ck.Now })
	var made []object
	for i := range 4 {
		made = append(made, a.assistant("name", fmt.Sprint(i)))
		ck.Add(time.Hour)
	}
	at := func(i int) string { return fmt.Sprint(made[i]["createdAt"]) }
	for query, want := range map[string][]any{
		"createdAtGt=" + at(1):                           {"3", "2"},
		"createdAtGe=" + at(1):                           {"3", "2", "1"},
		"createdAtLt=" + at(1):                           {"0"},
		"createdAtLe=" + at(1) + "&limit=1":              {"1"},
		"createdAtGt=" + at(0) + "&updatedAtLt=" + at(3): {"2", "1"},
	} {
		var got []any
		for _, one := range a.list("/assistant?" + query) {
			got = append(got, one["name"])
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
}

func TestFaultsOfImports(t *testing.T) {
	a := startVapi(t)
	a.client = &http.Client{Timeout: 300 * time.Millisecond}
	for _, c := range []struct {
		do     string
		status int // 0: no answer
		made   bool
	}{
		{sandbox.FaultTimeout, 0, false},
		{sandbox.FaultTimeoutAfterActing, 0, true},
		{sandbox.FaultCutAfterActing, 0, true},
		{sandbox.Fault500, 500, false},
		{sandbox.Fault503, 503, false},
		{sandbox.Fault500AfterActing, 500, true},
		{sandbox.Fault429, 429, false},
		{sandbox.FaultRefuse, 402, false},
	} {
		rule := sandbox.Fault{Match: sandbox.ImportNumber, Do: c.do}
		if c.do == sandbox.FaultRefuse {
			rule.Code = c.status
		}
		a.vapiFaults(rule)
		status, raw, err := a.try(http.MethodPost, "/phone-number", vapiKey, a.imported())
		if (err == nil) != (c.status != 0) || status != c.status {
			t.Errorf("%s: %v %d %s", c.do, err, status, raw)
		}
		found := a.list("/phone-number")
		if (len(found) == 1) != c.made {
			t.Errorf("%s: %d found", c.do, len(found))
		}
		// The one that is there is deleted, whether its answer comes or not; a second time it is gone.
		if len(found) == 1 {
			path := fmt.Sprint("/phone-number/", found[0]["id"])
			a.vapiFaults(sandbox.Fault{Match: sandbox.DeleteImported, Do: sandbox.FaultCutAfterActing})
			if _, _, err := a.try(http.MethodDelete, path, vapiKey, nil); err == nil {
				t.Errorf("%s: answered", c.do)
			}
			if status, _ := a.ask(http.MethodDelete, path, nil); status != http.StatusNotFound {
				t.Errorf("%s: %d", c.do, status)
			}
		}
	}
	for match, method := range map[string]string{
		sandbox.ListImported: "GET /phone-number", sandbox.ChangeImported: "PATCH /phone-number/x", sandbox.MakeAssistant: "POST /assistant",
		sandbox.ChangeAssistant: "PATCH /assistant/x", sandbox.DeleteAssistant: "DELETE /assistant/x",
	} {
		a.vapiFaults(sandbox.Fault{Match: match, Do: sandbox.Fault429})
		verb, path, _ := strings.Cut(method, " ")
		if status, e := a.ask(verb, path, object{}); status != http.StatusTooManyRequests {
			t.Errorf("%s: %d %v", match, status, e)
		}
	}
	for _, bad := range []sandbox.Fault{
		{Match: sandbox.ImportNumber, Do: sandbox.FaultRefuse, Code: 21422},
		{Match: sandbox.ImportNumber, Do: sandbox.FaultRefuse},
		{Match: sandbox.ImportNumber, Do: sandbox.FaultBadURL, URL: "x"},
	} {
		if err := a.vapi.SetFaults(bad); err == nil {
			t.Errorf("taken: %+v", bad)
		}
	}
}

func TestVapiRestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sandbox.db")
	same := func(o *sandbox.Options) { o.StateFile = file }
	one := startVapi(t, same)
	assistant := one.assistant()
	number := one.makes("/phone-number", one.imported("assistantId", assistant["id"]))
	before := one.vapi.Books()
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	p := startTwilio(t, withVapi, same)
	two := &agency{phone: p, vapi: p.Vapi(), client: http.DefaultClient}
	after := two.vapi.Books()
	if !slices.Equal(after.Numbers, before.Numbers) || !slices.Equal(after.Assistants, before.Assistants) || after.Imports != before.Imports {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if status, got := two.ask(http.MethodGet, fmt.Sprint("/phone-number/", number["id"]), nil); status != http.StatusOK || got["assistantId"] != assistant["id"] {
		t.Errorf("%d %v", status, got)
	}
	_, body, _ := p.page("/sandbox/vapi/books")
	if books := decode[sandbox.VapiBooks](t, body); len(books.Numbers) != 1 || books.Numbers[0].Number != one.number {
		t.Errorf("%s", body)
	}
}

func TestVapiOptionsThatCannotWork(t *testing.T) {
	for name, change := range map[string]func(*sandbox.Options){
		"no secret": func(o *sandbox.Options) { o.VapiWebhookSecret = "" },
		"no Twilio": func(o *sandbox.Options) { o.TwilioAccountSID = "" },
	} {
		o := sandbox.Options{Addr: ":0", StateFile: t.TempDir() + "/s"}
		withVapi(&o)
		change(&o)
		if s, err := sandbox.Start(t.Context(), o); err == nil {
			t.Errorf("%s: started", name)
			s.Close()
		}
	}
}
