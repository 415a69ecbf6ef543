package sandbox

import (
	"crypto/subtle"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// twilioAccount is the configured account or one of its subaccounts.
type twilioAccount struct {
	Seq          uint64 `json:"seq"`
	SID          string `json:"sid"`
	Token        string `json:"token"`
	Owner        string `json:"owner"`
	FriendlyName string `json:"friendly_name"`
	Status       string `json:"status"`
	Created      int64  `json:"created"` // Unix nanoseconds, like every time here
	Updated      int64  `json:"updated"`
}

// An account's status; see https://www.twilio.com/docs/iam/api/account#account-status-values.
const (
	accountActive    = "active"
	accountSuspended = "suspended"
	accountClosed    = "closed"
)

// nameMax is the longest FriendlyName, in characters.
const nameMax = 64

func (a *twilioAccount) sequence() uint64 { return a.Seq }
func (a *twilioAccount) id() string       { return a.SID }

// settleAccounts makes the configured account as it is configured now; its subaccounts are what the API made.
func (t *Twilio) settleAccounts(c *changes) {
	a := t.accounts[t.account]
	if a == nil {
		a = &twilioAccount{SID: t.account, FriendlyName: "Ringfence", Created: c.now.UnixNano(), Updated: c.now.UnixNano()}
		t.accounts[t.account] = a
		t.accountOrder = append(t.accountOrder, a)
	}
	a.Token, a.Owner, a.Status = t.token, t.account, accountActive
	c.put(bucketAccounts, a.SID, a)
}

// tokenOf gives the token that an account's callbacks are signed with.
func (t *Twilio) tokenOf(account string) string {
	if a := t.accounts[account]; a != nil {
		return a.Token
	}
	return t.token
}

// theirs says whether an account is the configured one or one of its subaccounts.
func (t *Twilio) theirs(a *twilioAccount) bool {
	return a != nil && (a.SID == t.account || a.Owner == t.account)
}

// admit gives the account whose credentials a request carries. An account's credentials admit to its own resources,
// those of the configured one also to its subaccounts', as a parent's do at Twilio.
func (t *Twilio) admit(r *http.Request) (*twilioAccount, error) {
	sid, token, _ := r.BasicAuth()
	target := r.PathValue("account")
	t.mu.Lock()
	defer t.mu.Unlock()
	caller := t.accounts[sid]
	switch {
	case !t.theirs(caller), subtle.ConstantTimeCompare([]byte(token), []byte(caller.Token)) != 1:
		return nil, twilioFail(codeAuthenticate, "Authenticate")
	case caller.Status != accountActive:
		return nil, twilioFail(codeForbidden, "Account %s is not active: it is %s", caller.SID, caller.Status)
	case target == "" || target == caller.SID:
		return caller, nil
	case caller.SID != t.account:
		return nil, twilioFail(codeAuthenticate, "Authenticate")
	case !t.theirs(t.accounts[target]):
		return nil, notFound(r.URL.Path)
	case r.Method == http.MethodPost && t.accounts[target].Status != accountActive:
		return nil, twilioFail(codeForbidden, "Account %s is not active: it is %s", target, t.accounts[target].Status)
	default:
		return caller, nil
	}
}

// RotateToken gives an account another token, as its owner does in Twilio's console: the old one opens nothing any more. The
// parent account's stays. Errors: 404 for an unknown account.
func (t *Twilio) RotateToken(account string) (token string, err error) {
	err = t.change(func(c *changes) error {
		a := t.accounts[account]
		if a == nil || a.SID == t.account {
			return notFound(account)
		}
		a.Token, a.Updated = newSID(""), c.now.UnixNano()
		c.put(bucketAccounts, a.SID, a)
		token = a.Token
		return nil
	})
	return token, err
}

// makeAccount is https://www.twilio.com/docs/iam/api/subaccounts#creating-subaccounts.
func makeAccount(t *Twilio, c *changes, in *asked) (any, error) {
	if err := in.allow("FriendlyName"); err != nil {
		return nil, err
	}
	if in.caller.SID != t.account {
		return nil, twilioFail(codeForbidden, "A subaccount cannot have subaccounts.")
	}
	name, err := in.friendlyName("SubAccount Created at " + c.now.UTC().Format("2006-01-02 03:04 pm"))
	if err != nil {
		return nil, err
	}
	t.seq++
	a := &twilioAccount{
		Seq: t.seq, SID: newSID("AC"), Token: newSID(""), Owner: t.account, FriendlyName: name, Status: accountActive,
		Created: c.now.UnixNano(), Updated: c.now.UnixNano(),
	}
	t.accounts[a.SID] = a
	t.accountOrder = append(t.accountOrder, a)
	c.put(bucketAccounts, a.SID, a)
	t.made(c, countAccounts)
	return a.view(), nil
}

// friendlyName reads a name; or is for when it was not sent.
func (in *asked) friendlyName(or string) (string, error) {
	name := in.form.Get("FriendlyName")
	switch {
	case name == "":
		return or, nil
	case utf8.RuneCountInString(name) > nameMax:
		return "", twilioFail(codeInvalidParameter, "FriendlyName is longer than %d characters.", nameMax)
	default:
		return name, nil
	}
}

// account gives the account that a request is about, if its caller may see it.
func (t *Twilio) accountOf(in *asked) (*twilioAccount, error) {
	a := t.accounts[in.sid]
	if !t.theirs(a) || (in.caller.SID != t.account && in.caller != a) {
		return nil, notFound(in.path)
	}
	return a, nil
}

// fetchAccount is https://www.twilio.com/docs/iam/api/account#fetch-an-account-resource.
func fetchAccount(t *Twilio, _ *changes, in *asked) (any, error) {
	a, err := t.accountOf(in)
	if err == nil {
		err = in.allow()
	}
	if err != nil {
		return nil, err
	}
	return a.view(), nil
}

// listAccounts is https://www.twilio.com/docs/iam/api/account#read-multiple-account-resources.
func listAccounts(t *Twilio, _ *changes, in *asked) (any, error) {
	if err := in.allow(pagedBy("FriendlyName", "Status")...); err != nil {
		return nil, err
	}
	name, status := in.form.Get("FriendlyName"), in.form.Get("Status")
	return listed[*twilioAccount]{
		key: "accounts", order: t.accountOrder,
		visible: func(a *twilioAccount) bool { return t.theirs(a) && (in.caller.SID == t.account || in.caller == a) },
		keep: func(a *twilioAccount) bool {
			return (name == "" || a.FriendlyName == name) && (status == "" || a.Status == status)
		},
		view: func(a *twilioAccount) any { return a.view() },
	}.page(in, "FriendlyName", "Status")
}

// updateAccount is https://www.twilio.com/docs/iam/api/account#update-an-account-resource. Only the parent changes the
// status of a subaccount, and what is closed stays closed: its numbers are released at once.
func updateAccount(t *Twilio, c *changes, in *asked) (any, error) {
	a, err := t.accountOf(in)
	if err == nil {
		err = in.allow("FriendlyName", "Status")
	}
	if err != nil {
		return nil, err
	}
	name, err := in.friendlyName(a.FriendlyName)
	if err != nil {
		return nil, err
	}
	status := in.form.Get("Status")
	switch {
	case status == "" || status == a.Status:
		status = a.Status
	case !slices.Contains([]string{accountActive, accountSuspended, accountClosed}, status):
		return nil, twilioFail(codeInvalidParameter, "Invalid Status: %s", status)
	case in.caller.SID != t.account || a.SID == t.account:
		return nil, twilioFail(codeForbidden, "Only its parent may change the status of a subaccount.")
	case a.Status == accountClosed:
		return nil, twilioFail(codeInvalidParameter, "Account %s is closed for good.", a.SID)
	}
	if status == accountClosed {
		for _, n := range t.numbersOf(a.SID) {
			t.release(c, n)
		}
	}
	a.FriendlyName, a.Status, a.Updated = name, status, c.now.UnixNano()
	c.put(bucketAccounts, a.SID, a)
	return a.view(), nil
}

// accountView is the account resource; see https://www.twilio.com/docs/iam/api/account#account-properties.
type accountView struct {
	AuthToken       string            `json:"auth_token"`
	DateCreated     *string           `json:"date_created"`
	DateUpdated     *string           `json:"date_updated"`
	FriendlyName    string            `json:"friendly_name"`
	OwnerAccountSID string            `json:"owner_account_sid"`
	SID             string            `json:"sid"`
	Status          string            `json:"status"`
	SubresourceURIs map[string]string `json:"subresource_uris"`
	Type            string            `json:"type"`
	URI             string            `json:"uri"`
}

func (a *twilioAccount) view() accountView {
	path := twilioPath + "Accounts/" + a.SID
	v := accountView{
		AuthToken: a.Token, DateCreated: rfc2822(a.Created), DateUpdated: rfc2822(a.Updated), FriendlyName: a.FriendlyName,
		OwnerAccountSID: a.Owner, SID: a.SID, Status: a.Status, Type: "Full", URI: path + ".json",
		SubresourceURIs: map[string]string{},
	}
	for _, name := range []string{
		"AvailablePhoneNumbers", "Calls", "IncomingPhoneNumbers", "Messages", "OutgoingCallerIds",
	} {
		v.SubresourceURIs[snake(name)] = path + "/" + name + ".json"
	}
	return v
}

// snake writes a name like IncomingPhoneNumbers as incoming_phone_numbers.
func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				b.WriteByte('_')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// BookedAccount is an account as the books show it: the configured one or a subaccount, whatever its status.
type BookedAccount struct {
	SID          string    `json:"sid"`
	FriendlyName string    `json:"friendly_name"`
	Status       string    `json:"status"`
	Created      time.Time `json:"created"`
	// Numbers counts those it owns now.
	Numbers int `json:"numbers"`
}
