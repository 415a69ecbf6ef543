package sandbox

import (
	"crypto/rand"
	"fmt"
	"math/big"
	"strings"
)

// callerID is a number of somebody's own that an account may call from, or is asked to prove: see
// https://www.twilio.com/docs/voice/api/outgoing-caller-ids-resource.
type callerID struct {
	line

	Seq          uint64 `json:"seq"`
	SID          string `json:"sid"`
	Account      string `json:"account"`
	Number       string `json:"number"`
	FriendlyName string `json:"friendly_name"`
	// Code is what the person is to type when called; Call is that call.
	Code string `json:"code"`
	Call string `json:"call"`
	// Verified is when it was typed; Failed that something else was.
	Verified       int64  `json:"verified,omitempty"` // Unix nanoseconds, like every time here
	Failed         bool   `json:"failed,omitempty"`
	Created        int64  `json:"created"`
	Updated        int64  `json:"updated"`
	Deleted        int64  `json:"deleted,omitempty"`
	StatusCallback string `json:"status_callback,omitempty"`
}

func (i *callerID) sequence() uint64 { return i.Seq }
func (i *callerID) id() string       { return i.SID }

// verified gives an account's proven number; nil when it is none.
func (t *Twilio) verified(account, number string) *callerID {
	for _, i := range t.callerOrder {
		if i.Account == account && i.Number == number && i.Verified != 0 && i.Deleted == 0 {
			return i
		}
	}
	return nil
}

// requestCallerID is https://www.twilio.com/docs/voice/api/outgoing-caller-ids-resource#add-an-outgoing-caller-id. The
// person is called and has to type the code: TypeCode does it.
func requestCallerID(t *Twilio, c *changes, in *asked) (any, error) {
	if err := in.allow("PhoneNumber", "FriendlyName", "StatusCallback", "StatusCallbackMethod"); err != nil {
		return nil, err
	}
	number, target := in.form.Get("PhoneNumber"), in.form.Get("StatusCallback")
	switch {
	case !validNumber(number):
		return nil, twilioFail(codeInvalidCaller, "Invalid phone number: %s", number)
	case t.verified(in.account, number) != nil:
		return nil, twilioFail(codeCallerExists, "Phone number %s is already verified for your account", number)
	case target != "" && !callbackURL(target):
		return nil, twilioFail(codeInvalidCallback, "The 'StatusCallback' URL %s is not a valid URL", target)
	case in.form.Get("StatusCallbackMethod") != "" && in.form.Get("StatusCallbackMethod") != "POST":
		return nil, twilioFail(codeInvalidMethod, "StatusCallbackMethod: the sandbox knows only POST")
	}
	name, err := in.friendlyName(friendly(number))
	if err != nil {
		return nil, err
	}
	code, err := rand.Int(rand.Reader, big.NewInt(1_000_000))
	if err != nil {
		return nil, err
	}
	t.seq++
	i := &callerID{
		Seq: t.seq, SID: newSID("PN"), Account: in.account, Number: number, FriendlyName: name,
		Code: fmt.Sprintf("%06d", code.Int64()), Call: newSID("CA"), Created: c.now.UnixNano(), Updated: c.now.UnixNano(),
		StatusCallback: target,
	}
	t.callerIDs[i.SID] = i
	t.callerOrder = append(t.callerOrder, i)
	c.put(bucketCallers, i.SID, i)
	return map[string]any{
		"account_sid": i.Account, "call_sid": i.Call, "friendly_name": i.FriendlyName, "phone_number": i.Number,
		"validation_code": i.Code,
	}, nil
}

// TypeCode has the person whose number is to be verified answer the call and type a code; an empty one is the right
// one. The last request for the number counts, of whichever account; without one it is 20404. It gives whether the
// number is verified now.
func (t *Twilio) TypeCode(number, code string) (verified bool, err error) {
	err = t.change(func(c *changes) error {
		var i *callerID
		for _, one := range t.callerOrder {
			if one.Number == number && one.Verified == 0 && !one.Failed && one.Deleted == 0 {
				i = one
			}
		}
		if i == nil {
			return notFound(number)
		}
		verified = code == "" || strings.TrimSpace(code) == i.Code
		i.Updated, i.Failed = c.now.UnixNano(), !verified
		status := "failed"
		if verified {
			i.Verified, status = c.now.UnixNano(), "success"
		}
		if i.StatusCallback != "" {
			form := map[string]string{
				"VerificationStatus": status, "AccountSid": i.Account, "CallSid": i.Call, "To": i.Number, "Called": i.Number,
			}
			if verified {
				form["OutgoingCallerIdSid"] = i.SID
			}
			t.teller.tell(c, i, &callback{What: whatCaller + status, URL: i.StatusCallback, Form: form})
		}
		c.put(bucketCallers, i.SID, i)
		c.then(func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.teller.callNext(i)
		})
		return nil
	})
	return verified, err
}

func (t *Twilio) callerOf(in *asked) (*callerID, error) {
	if i := t.callerIDs[in.sid]; i != nil && i.Account == in.account && i.Verified != 0 && i.Deleted == 0 {
		return i, nil
	}
	return nil, notFound(in.path)
}

// fetchCaller is https://www.twilio.com/docs/voice/api/outgoing-caller-ids-resource#fetch-an-outgoingcallerid-resource.
func fetchCaller(t *Twilio, _ *changes, in *asked) (any, error) {
	i, err := t.callerOf(in)
	if err == nil {
		err = in.allow()
	}
	if err != nil {
		return nil, err
	}
	return i.view(), nil
}

// updateCaller is
// https://www.twilio.com/docs/voice/api/outgoing-caller-ids-resource#update-an-outgoingcallerid-resource.
func updateCaller(t *Twilio, c *changes, in *asked) (any, error) {
	i, err := t.callerOf(in)
	if err == nil {
		err = in.allow("FriendlyName")
	}
	if err != nil {
		return nil, err
	}
	name, err := in.friendlyName(i.FriendlyName)
	if err != nil {
		return nil, err
	}
	i.FriendlyName, i.Updated = name, c.now.UnixNano()
	c.put(bucketCallers, i.SID, i)
	return i.view(), nil
}

// listCallers is
// https://www.twilio.com/docs/voice/api/outgoing-caller-ids-resource#read-multiple-outgoingcallerid-resources.
func listCallers(t *Twilio, _ *changes, in *asked) (any, error) {
	if err := in.allow(pagedBy("PhoneNumber", "FriendlyName")...); err != nil {
		return nil, err
	}
	number, name := in.form.Get("PhoneNumber"), in.form.Get("FriendlyName")
	return listed[*callerID]{
		key: "outgoing_caller_ids", order: t.callerOrder,
		visible: func(i *callerID) bool { return i.Account == in.account && i.Verified != 0 && i.Deleted == 0 },
		keep: func(i *callerID) bool {
			return (number == "" || i.Number == number) && (name == "" || i.FriendlyName == name)
		},
		view: func(i *callerID) any { return i.view() },
	}.page(in, "PhoneNumber", "FriendlyName")
}

// deleteCaller is
// https://www.twilio.com/docs/voice/api/outgoing-caller-ids-resource#delete-an-outgoingcallerid-resource.
func deleteCaller(t *Twilio, c *changes, in *asked) (any, error) {
	i, err := t.callerOf(in)
	if err == nil {
		err = in.allow()
	}
	if err != nil {
		return nil, err
	}
	i.Deleted = c.now.UnixNano()
	c.put(bucketCallers, i.SID, i)
	return nil, nil // 204 has no body
}

// view is the caller id as Twilio shows it.
func (i *callerID) view() map[string]any {
	return map[string]any{
		"account_sid": i.Account, "date_created": rfc2822(i.Verified), "date_updated": rfc2822(i.Updated),
		"friendly_name": i.FriendlyName, "phone_number": i.Number, "sid": i.SID,
		"uri": twilioPath + "Accounts/" + i.Account + "/OutgoingCallerIds/" + i.SID + ".json",
	}
}

// BookedCaller is a number that an account may call from, or asked to.
type BookedCaller struct {
	SID     string `json:"sid"`
	Account string `json:"account"`
	Number  string `json:"number"`
	// State is asked, verified, failed or deleted.
	State string `json:"state"`
	// Code is what the person is to type.
	Code string `json:"code"`
}

func (i *callerID) booked() BookedCaller {
	b := BookedCaller{SID: i.SID, Account: i.Account, Number: i.Number, State: "asked", Code: i.Code}
	switch {
	case i.Deleted != 0:
		b.State = "deleted"
	case i.Verified != 0:
		b.State = "verified"
	case i.Failed:
		b.State = "failed"
	}
	return b
}
