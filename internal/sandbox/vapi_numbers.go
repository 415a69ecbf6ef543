package sandbox

import (
	"maps"
	"net/http"
	"time"
)

// importShape and changeShape are the bodies of a number's import and change.
var (
	importShape = object(numberProps, "provider", "number", "twilioAccountSid", "twilioAuthToken")
	changeShape = object(func() map[string]shape {
		props := maps.Clone(numberProps)
		delete(props, "provider")
		return props
	}())
)

// importNumber is https://docs.vapi.ai/api-reference/phone-numbers/create, of numbers of Twilio's. It takes the
// number's calls to itself at Twilio, and its texts too unless smsEnabled is false.
func importNumber(v *Vapi, c *changes, in *vapiAsked) (any, error) {
	if err := in.hold(importShape); err != nil {
		return nil, err
	}
	fields := in.body
	if smsEnabled, sent := fields["smsEnabled"].(bool); !sent || smsEnabled {
		fields["smsEnabled"] = true
	}
	if err := v.fitting(fields); err != nil {
		return nil, err
	}
	for _, r := range v.numberOrder {
		if r.Deleted == 0 && r.Fields["number"] == fields["number"] {
			return nil, vapiFail(http.StatusBadRequest, "Existing Phone Number %s Has Identical `number`.", r.ID)
		}
	}
	if err := v.take(fields); err != nil {
		return nil, err
	}
	fields["status"] = "active"
	r := v.add(c, v.numberTable(), fields)
	v.made(c, countImports)
	return v.view(r), nil
}

// fitting says why a number cannot have these fields, if it cannot.
func (v *Vapi) fitting(fields map[string]any) error {
	if id, ok := fields["assistantId"].(string); ok {
		if _, err := v.assistantTable().find(id); err != nil {
			return vapiFail(http.StatusBadRequest, "Couldn't Find Assistant. `assistantId` %s Does Not Exist.", id)
		}
	}
	return nil
}

// take points a number at the stand-in, with the credentials in its fields.
func (v *Vapi) take(fields map[string]any) error {
	text := func(name string) string { s, _ := fields[name].(string); return s }
	texts := ""
	if fields["smsEnabled"] == true {
		texts = v.base + "/twilio/sms"
	}
	err := v.twilio.lend(text("twilioAccountSid"), text("twilioAuthToken"), text("number"), v.base+inboundPath, texts)
	if err != nil {
		return vapiFail(http.StatusBadRequest, "Number Not Found on Twilio: %s. Hot tip, check the number, the account and its token.", err)
	}
	return nil
}

// inboundPath is where Twilio asks what to do with a call that comes in.
const inboundPath = "/twilio/inbound_call"

// fetchImported is https://docs.vapi.ai/api-reference/phone-numbers/get.
func fetchImported(v *Vapi, _ *changes, in *vapiAsked) (any, error) {
	r, err := v.numberTable().find(in.id)
	if err != nil {
		return nil, err
	}
	return v.view(r), nil
}

// listImported is https://docs.vapi.ai/api-reference/phone-numbers/list.
func listImported(v *Vapi, _ *changes, in *vapiAsked) (any, error) {
	return v.listRows(v.numberTable(), in)
}

// changeImported is https://docs.vapi.ai/api-reference/phone-numbers/update. Other credentials are tried at once.
func changeImported(v *Vapi, c *changes, in *vapiAsked) (any, error) {
	r, err := v.numberTable().find(in.id)
	if err == nil {
		err = in.hold(changeShape)
	}
	if err == nil {
		err = v.fitting(in.body)
	}
	if err != nil {
		return nil, err
	}
	if in.body["number"] != nil && in.body["number"] != r.Fields["number"] {
		return nil, vapiFail(http.StatusBadRequest, "The sandbox does not imitate changing a number's number.")
	}
	if in.body["twilioAccountSid"] != nil || in.body["twilioAuthToken"] != nil || in.body["smsEnabled"] != nil {
		merged := maps.Clone(r.Fields)
		maps.Copy(merged, in.body)
		if err := v.take(merged); err != nil {
			return nil, err
		}
	}
	v.patch(c, v.numberTable(), r, in.body)
	return v.view(r), nil
}

// deleteImported is https://docs.vapi.ai/api-reference/phone-numbers/delete. At Twilio the number stays as it is.
func deleteImported(v *Vapi, c *changes, in *vapiAsked) (any, error) {
	r, err := v.numberTable().find(in.id)
	if err != nil {
		return nil, err
	}
	v.drop(c, v.numberTable(), r)
	return v.view(r), nil
}

// lend has a number's calls asked for at voiceURL, and its texts posted to smsURL unless that is empty: what somebody
// does who has an account's credentials. Errors: 20003 for credentials that do not hold, 20404 for a number that is
// not the account's.
func (t *Twilio) lend(account, token, number, voiceURL, smsURL string) error {
	return t.change(func(c *changes) error {
		a, n := t.accounts[account], t.owned[number]
		switch {
		case !t.theirs(a) || a.Token != token || a.Status != accountActive:
			return twilioFail(codeAuthenticate, "Authenticate")
		case n == nil || n.Account != account:
			return notFound(number)
		}
		n.VoiceURL = voiceURL
		if smsURL != "" {
			n.SMSURL, n.TextsToOptions = smsURL, false
		}
		n.Updated = c.now.UnixNano()
		c.put(bucketNumbers, n.SID, n)
		return nil
	})
}

// BookedImport is a phone number as the books show it, imported now or once.
type BookedImport struct {
	ID      string `json:"id"`
	Number  string `json:"number"`
	Account string `json:"account"` // at Twilio
	Name    string `json:"name"`
	// AssistantID answers its calls; empty: the server is asked.
	AssistantID string `json:"assistant_id"`
	// AuthToken is the account's, as Vapi was told last.
	AuthToken  string    `json:"auth_token"`
	SMSEnabled bool      `json:"sms_enabled"`
	Created    time.Time `json:"created"`
	// Deleted is zero while it is there.
	Deleted time.Time `json:"deleted,omitzero"`
}

func (r *vapiRow) bookedImport() BookedImport {
	b := BookedImport{
		ID: r.ID, Number: r.text("number"), Account: r.text("twilioAccountSid"), Name: r.text("name"),
		AssistantID: r.text("assistantId"), AuthToken: r.text("twilioAuthToken"), SMSEnabled: r.Fields["smsEnabled"] == true, Created: time.Unix(0, r.Created).UTC(),
	}
	if r.Deleted != 0 {
		b.Deleted = time.Unix(0, r.Deleted).UTC()
	}
	return b
}
