package notice_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/notice"
)

// invite posts an invitation to an address and gives the letter's id.
func (p *post) invite(address string, holds time.Duration, sealed string) uuid.UUID {
	p.t.Helper()
	l := notice.Personal{
		ID: uuid.Must(uuid.NewV7()), Kind: notice.Invitation, Address: address, Sealed: []byte(sealed), Expires: p.clock.Now().Add(holds),
		Data: map[string]any{"org_name": "Harbour\r\nDental", "inviter": owner, "role": "owner", "until": p.clock.Now().Add(holds)},
	}
	if err := p.db.InSystemTx(p.t.Context(), "test", func(ctx context.Context, tx *db.Tx) error { return notice.Post(ctx, tx, l) }); err != nil {
		p.t.Fatal(err)
	}
	return l.ID
}

// A letter to one address goes to that address alone, whoever it is, and its token is forgotten with the sending.
func TestPersonalLetters(t *testing.T) {
	p := newPost(t, func(o *notice.Options) {
		o.OpenToken = func(_ uuid.UUID, sealed []byte) (string, error) {
			if string(sealed) == "lost" {
				return "", errors.New("its key is gone")
			}
			return strings.TrimPrefix(string(sealed), "sealed "), nil
		}
	})
	const stranger = "stranger@else.example"
	id := p.invite(stranger, time.Hour, "sealed the&token")
	p.invite("", time.Hour, "sealed nobody's")
	p.invite("lost@else.example", time.Hour, "lost")
	p.work()
	p.work()
	p.wants(stranger, "You are invited to Harbour Dental at Ringfence")
	p.wants("lost@else.example")
	p.wants(owner)
	l := p.mail.Letters(stranger)[0]
	const link = "https://ringfence.example/invitation?token=the%26token"
	if !strings.Contains(l.Text, "Look at the invitation: "+link) || !strings.Contains(l.HTML, `<a href="`+link+`">`) ||
		!strings.Contains(l.Text, owner+" asks you to join Harbour Dental as an owner") || strings.Contains(l.Text+l.HTML, "/settings/notices") {
		t.Errorf("the letter reads:\n%s\n%s", l.Text, l.HTML)
	}
	if got := strings.Join(l.Header["Message-Id"], ""); !strings.Contains(got, id.String()) {
		t.Errorf("Message-ID %s", got)
	}
	var states []string
	dbtest.Select(t, p.dbURL, &states, `SELECT state || ' ' || (sealed_token IS NULL) FROM personal_letters ORDER BY state`)
	if got := strings.Join(states, "|"); got != "dropped true|dropped true|sent true" {
		t.Errorf("the letters stand at %s", got)
	}
	p.clock.Advance(31*24*time.Hour + 2*time.Hour)
	p.work()
	var left int
	if dbtest.Get(t, p.dbURL, &left, `SELECT count(*) FROM personal_letters`); left != 0 {
		t.Errorf("%d old letters stayed", left)
	}
}

// A mail server that is away is tried again while the letter's link holds, and not afterwards.
func TestPersonalLettersRunOut(t *testing.T) {
	p := newPost(t, func(o *notice.Options) {
		o.SMTPURL, o.Timeout = "smtp://127.0.0.1:1", time.Second // nobody listens there
		o.OpenToken = func(uuid.UUID, []byte) (string, error) { return "t", nil }
	})
	p.invite("a@else.example", 4*time.Minute, "x")
	state := func() (s string) {
		dbtest.Get(t, p.dbURL, &s, `SELECT state || ' ' || attempts || ' ' || (sealed_token IS NULL) FROM personal_letters`)
		return s
	}
	p.work()
	if got := state(); got != "queued 1 false" {
		t.Errorf("after the first try: %s", got)
	}
	p.clock.Advance(time.Minute)
	p.work() // the next try would come after its end
	if got := state(); got != "failed 2 true" {
		t.Errorf("after the last try: %s", got)
	}
}
