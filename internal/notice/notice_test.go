package notice_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/notice"
	"ringfence/internal/sandbox"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

const (
	owner  = "owner@harbour.example"
	viewer = "viewer@harbour.example"
	other  = "owner@second.example"
)

// post is notices over a database and a mail server of their own: Harbour Dental with £50.00, an owner and a viewer, and
// another organisation.
type post struct {
	*notice.Service
	t          *testing.T
	dbURL      string
	db         *db.DB
	clock      *dbtest.Clock
	mail       *sandbox.Mail
	org, other uuid.UUID
	people     map[string]uuid.UUID
	n          int
}

func newPost(t *testing.T, change func(*notice.Options)) *post {
	t.Helper()
	p := &post{t: t, dbURL: dbtest.URL(t), clock: &dbtest.Clock{}, people: map[string]uuid.UUID{}}
	p.db = dbtest.OpenURL(t, p.dbURL, p.clock.Now)
	p.org, p.other = wallettest.Org(t, p.db, "Harbour Dental", 50_00), wallettest.Org(t, p.db, "Second Tenant", 50_00)
	for email, in := range map[string]struct {
		org  uuid.UUID
		role string
	}{owner: {p.org, "owner"}, viewer: {p.org, "viewer"}, other: {p.other, "owner"}} {
		id := uuid.Must(uuid.NewV7())
		p.people[email] = id
		dbtest.Super(t, p.dbURL, `INSERT INTO users (id, issuer, subject, email, created_at) VALUES ($1::uuid, 'local', $1::text, $2, now())`, id, email)
		dbtest.Super(t, p.dbURL, `INSERT INTO memberships (org_id, user_id, role, created_at) VALUES ($1, $2, $3, now())`, in.org, id, in.role)
	}
	box, err := sandbox.Start(t.Context(), sandbox.Options{
		Addr: "127.0.0.1:0", MailAddr: "127.0.0.1:0", StateFile: filepath.Join(t.TempDir(), "sandbox.db"), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.Close(); err != nil {
			t.Error(err)
		}
	})
	p.mail = box.Mail()
	o := notice.Options{
		DB: p.db, Log: slog.New(slog.DiscardHandler), SMTPURL: "smtp://" + p.mail.Addr(), From: "Ringfence <no-reply@ringfence.example>",
		BaseURL: "https://ringfence.example", Timeout: 5 * time.Second,
	}
	if change != nil {
		change(&o)
	}
	if p.Service, err = notice.New(o); err != nil {
		t.Fatal(err)
	}
	return p
}

// work makes a round, the sending of which may fail.
func (p *post) work() {
	p.t.Helper()
	if err := p.Work(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
}

// pay moves the balance of an organisation.
func (p *post) pay(org uuid.UUID, amount money.Pence) {
	p.t.Helper()
	p.n++
	err := p.db.InTx(p.t.Context(), []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		_, err := wallet.Adjust(ctx, tx, wallet.AdjustmentRequest{
			OrgID: org, Kind: wallet.Adjustment, Amount: amount, Reason: "A test", Reference: fmt.Sprint(p.n), Actor: audit.System("test"),
		})
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *post) raise(n notice.Notice) {
	p.t.Helper()
	err := p.db.InTx(p.t.Context(), []uuid.UUID{n.OrgID}, func(ctx context.Context, tx *db.Tx) error { return notice.Raise(ctx, tx, n) })
	if err != nil {
		p.t.Fatal(err)
	}
}

// got are the subjects that somebody was sent, oldest first.
func (p *post) got(email string) (subjects []string) {
	for _, l := range p.mail.Letters(email) {
		subjects = append([]string{l.Subject}, subjects...)
	}
	return subjects
}

func (p *post) wants(email string, subjects ...string) {
	p.t.Helper()
	if got := p.got(email); strings.Join(got, "|") != strings.Join(subjects, "|") {
		p.t.Errorf("%s was sent %q, want %q", email, got, subjects)
	}
}

func TestLowBalanceIsToldOncePerCrossing(t *testing.T) {
	p := newPost(t, nil)
	const low = "Your balance is low"
	p.work() // the first look
	p.pay(p.org, -40_00)
	p.work()
	p.wants(owner)
	p.pay(p.org, -5_01)
	p.work()
	p.work()
	p.wants(owner, low)
	letter := p.mail.Letters(owner)[0]
	for _, words := range []string{"£4.99 is available", "your mark of £5.00", "Top up: https://ringfence.example/wallet", "Harbour Dental", "https://ringfence.example/settings/notices"} {
		if !strings.Contains(letter.Text, words) {
			t.Errorf("the letter does not say %q:\n%s", words, letter.Text)
		}
	}
	if !strings.Contains(letter.HTML, `<a href="https://ringfence.example/wallet">Top up</a>`) {
		t.Errorf("the page leads nowhere:\n%s", letter.HTML)
	}
	p.pay(p.org, -1_00) // lower still
	p.work()
	p.wants(owner, low)
	p.pay(p.org, 20_00)
	p.work()
	p.pay(p.org, -19_99)
	p.work()
	p.wants(owner, low, low)
	p.wants(viewer)
	p.wants(other)
}

// TestAccountsBeginEmpty: nobody is told that a new account has no money.
func TestAccountsBeginEmpty(t *testing.T) {
	p := newPost(t, nil)
	p.pay(p.org, -50_00)
	p.work()
	p.work()
	p.wants(owner)
	p.pay(p.org, 10_00)
	p.work()
	p.pay(p.org, -9_00)
	p.work()
	p.wants(owner, "Your balance is low")
}

func TestTheMarkIsTheOwners(t *testing.T) {
	p := newPost(t, nil)
	p.work()
	for _, wrong := range []money.Pence{-1, notice.MaxMark + 1} {
		if f := fault.As(p.SetMark(t.Context(), p.org, wrong, audit.System("test"))); f == nil || f.Field != "mark" {
			t.Errorf("a mark of %dp: %v", wrong, f)
		}
	}
	if err := p.SetMark(t.Context(), p.org, 60_00, audit.System("test")); err != nil {
		t.Fatal(err)
	}
	p.work()
	p.wants(owner, "Your balance is low")
	p.wants(other)
	if err := p.SetMark(t.Context(), p.org, 0, audit.System("test")); err != nil {
		t.Fatal(err)
	}
	p.work()
	p.pay(p.org, -50_00)
	p.work()
	p.wants(owner, "Your balance is low") // no more: 0 is never
	var audited int
	dbtest.Get(t, p.dbURL, &audited, `SELECT count(*) FROM audit_log WHERE action = 'notices.mark_moved' AND org_id = $1`, p.org)
	if audited != 2 {
		t.Errorf("%d moves of the mark were audited", audited)
	}
}

// credit plants a credited top-up, as payments leave it.
func (p *post) credit(org uuid.UUID, amount money.Pence, at time.Time) {
	p.t.Helper()
	p.n++
	topUp, intent := uuid.Must(uuid.NewV7()), fmt.Sprintf("pi_%d", p.n)
	dbtest.Super(p.t, p.dbURL, `INSERT INTO exchange_rates (usd_to_gbp_micros, source, author, starts_at, created_at)
		SELECT 790000, 'test', 'test', '1970-01-01', now() WHERE NOT EXISTS (SELECT 1 FROM exchange_rates)`)
	dbtest.Super(p.t, p.dbURL, `INSERT INTO top_ups (id, org_id, user_id, amount_pence, usd_cents, rate_id, state, paid_pence, created_at, updated_at)
		SELECT $1, $2, m.user_id, $3, 1, r.id, 'paid', $3, $4, $4 FROM memberships m, exchange_rates r WHERE m.org_id = $2 LIMIT 1`, topUp, org, amount, at)
	dbtest.Super(p.t, p.dbURL, `INSERT INTO payments (payment_intent, org_id, top_up_id, amount_pence, paid_at, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5, $5)`,
		intent, org, topUp, amount, at)
	err := p.db.InTx(p.t.Context(), []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		_, err := wallet.CreditPayments(ctx, tx, []wallet.Payment{{PaymentIntent: intent, OrgID: org, TopUpID: topUp, Amount: amount, EventID: "evt"}})
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	dbtest.Super(p.t, p.dbURL, `UPDATE credits SET created_at = $2 WHERE payment_intent = $1`, intent, at)
}

// TestCreditsAreToldOnce, also those whose transaction committed after a later one had been seen.
func TestCreditsAreToldOnce(t *testing.T) {
	p := newPost(t, nil)
	dbtest.Super(t, p.dbURL, `UPDATE notice_watermarks SET until = $1`, dbtest.Start)
	p.work()
	at := p.clock.Now()
	p.credit(p.org, 25_00, at.Add(time.Second))
	p.clock.Advance(10 * time.Second)
	p.work()
	p.work()
	p.wants(owner, "£25.00 was added to your wallet")
	p.credit(p.org, 30_00, at.Add(-30*time.Second)) // began before the last look
	p.credit(p.other, 40_00, at.Add(time.Second))
	p.work()
	p.wants(owner, "£25.00 was added to your wallet", "£30.00 was added to your wallet")
	p.wants(other, "£40.00 was added to your wallet")
}

// TestManyAtOnceAreOneLetter: a busy minute does not fill a mailbox.
func TestManyAtOnceAreOneLetter(t *testing.T) {
	p := newPost(t, nil)
	for i := range 12 {
		p.raise(notice.Notice{OrgID: p.org, Kind: notice.TopUpFailed, Subject: fmt.Sprint(i), Data: map[string]any{"amount_pence": 5_00}})
	}
	p.raise(notice.Notice{OrgID: p.org, Kind: notice.DisputeOpened, Subject: "dp_1", Data: map[string]any{"amount_pence": 5_00}})
	p.work()
	if got := p.got(owner); len(got) != 2 {
		t.Fatalf("letters %q", got)
	}
	for _, l := range p.mail.Letters(owner) {
		if l.Subject == "A top-up has failed (12 times)" && !strings.Contains(l.Text, "And 2 more: https://ringfence.example/notices") {
			t.Errorf("the letter does not say that there are more:\n%s", l.Text)
		}
	}
}

func TestRaisingAgainTellsNothing(t *testing.T) {
	p := newPost(t, nil)
	n := notice.Notice{OrgID: p.org, Kind: notice.DisputeOpened, Subject: "dp_1", Data: map[string]any{"amount_pence": 5_00}}
	for range 2 {
		p.raise(n)
		p.work()
	}
	p.wants(owner, "A payment of £5.00 is disputed")
	told, err := p.List(t.Context(), p.org, uuid.Nil, 10)
	if err != nil || len(told) != 1 {
		t.Errorf("%v, %v", told, err)
	}
}

func TestPreferences(t *testing.T) {
	p := newPost(t, nil)
	ctx := t.Context()
	before, err := p.Preferences(ctx, p.org, p.people[owner], true)
	if err != nil || len(before.Mail) != len(notice.Kinds) || !before.Mail[notice.LowBalance] || before.Mark != notice.DefaultMark {
		t.Fatalf("%+v, %v", before, err)
	}
	if none, err := p.Preferences(ctx, p.org, p.people[viewer], false); err != nil || none.Mail[notice.LowBalance] {
		t.Fatalf("%+v, %v", none, err)
	}
	for email, kinds := range map[string][]notice.Kind{owner: {notice.DisputeOpened}, viewer: {notice.TopUpFailed}} {
		if err := p.Choose(ctx, p.org, p.people[email], kinds); err != nil {
			t.Fatal(err)
		}
	}
	p.raise(notice.Notice{OrgID: p.org, Kind: notice.TopUpFailed, Subject: "1", Data: map[string]any{"amount_pence": 5_00}})
	p.raise(notice.Notice{OrgID: p.org, Kind: notice.DisputeOpened, Subject: "1", Data: map[string]any{"amount_pence": 5_00}})
	p.work()
	p.wants(owner, "A payment of £5.00 is disputed")
	p.wants(viewer, "Your top-up of £5.00 failed")
}

// TestWhoLeftIsToldNothing, though the letter was addressed before.
func TestWhoLeftIsToldNothing(t *testing.T) {
	p := newPost(t, nil)
	if err := p.mail.SetFaults(sandbox.Fault{Match: "mail *", Do: "451", Times: -1}); err != nil {
		t.Fatal(err)
	}
	p.raise(notice.Notice{OrgID: p.org, Kind: notice.TopUpFailed, Subject: "1", Data: map[string]any{"amount_pence": 5_00}})
	p.raise(notice.Notice{OrgID: p.other, Kind: notice.TopUpFailed, Subject: "1", Data: map[string]any{"amount_pence": 5_00}})
	p.work()
	dbtest.Super(t, p.dbURL, `DELETE FROM memberships WHERE user_id = $1`, p.people[owner])
	dbtest.Super(t, p.dbURL, `UPDATE users SET disabled_at = now() WHERE id = $1`, p.people[other])
	if err := p.mail.SetFaults(); err != nil {
		t.Fatal(err)
	}
	p.clock.Advance(time.Hour)
	p.work()
	p.wants(owner)
	p.wants(other)
	p.states("dropped", "dropped")
}

// states are what became of the letters, oldest first.
func (p *post) states(want ...string) {
	p.t.Helper()
	var got []string
	dbtest.Select(p.t, p.dbURL, &got, `SELECT state FROM notice_mails ORDER BY created_at, state`)
	if strings.Join(got, " ") != strings.Join(want, " ") {
		p.t.Errorf("the letters are %q, want %q", got, want)
	}
}

// TestMailServerFails: whatever it does, a letter is told to have gone only when it has, and is tried again with pauses.
func TestMailServerFails(t *testing.T) {
	one := notice.Notice{Kind: notice.TopUpFailed, Subject: "1", Data: map[string]any{"amount_pence": 5_00}}
	for _, c := range []struct {
		do    string
		state string
		sent  int // when tried again after the fault
	}{
		{"451", "queued", 1}, {"550", "failed", 0}, {"cut", "queued", 1}, {"cut_after_acting", "queued", 2},
	} {
		t.Run(c.do, func(t *testing.T) {
			p := newPost(t, nil)
			one.OrgID = p.org
			p.raise(one)
			if err := p.mail.SetFaults(sandbox.Fault{Match: "mail *", Do: c.do}); err != nil {
				t.Fatal(err)
			}
			p.work()
			p.states(c.state)
			p.work() // too soon
			p.clock.Advance(time.Minute)
			p.work()
			if got := p.got(owner); len(got) != c.sent {
				t.Errorf("%d letters, want %d", len(got), c.sent)
			}
			if c.sent == 2 { // nobody can know that the first one arrived, but who reads both can
				l := p.mail.Letters(owner)
				if l[0].Header["Message-Id"][0] != l[1].Header["Message-Id"][0] {
					t.Errorf("one letter has two ids: %q and %q", l[0].Header["Message-Id"], l[1].Header["Message-Id"])
				}
			}
		})
	}
	t.Run("away", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		nobody := l.Addr().String()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		p := newPost(t, func(o *notice.Options) { o.SMTPURL = "smtp://" + nobody })
		one.OrgID = p.org
		p.raise(one)
		if p.Reach(t.Context()) == nil {
			t.Error("it could be reached")
		}
		p.work()
		p.states("queued")
		p.clock.Advance(47 * time.Hour)
		p.work()
		p.states("queued")
		p.clock.Advance(7 * time.Hour)
		p.work()
		p.states("failed") // two days are enough
	})
	t.Run("silent", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		p := newPost(t, func(o *notice.Options) { o.SMTPURL, o.Timeout = "smtp://"+l.Addr().String(), 50*time.Millisecond })
		one.OrgID = p.org
		p.raise(one)
		p.work() // ends
		p.states("queued")
	})
}

// TestWithoutMailNoticesAreKept, and are not mailed later either.
func TestWithoutMailNoticesAreKept(t *testing.T) {
	p := newPost(t, func(o *notice.Options) { o.SMTPURL = "" })
	p.raise(notice.Notice{OrgID: p.org, Kind: notice.TopUpFailed, Subject: "1", Data: map[string]any{"amount_pence": 5_00}})
	p.work()
	p.states()
	told, err := p.List(t.Context(), p.org, uuid.Nil, 10)
	if err != nil || len(told) != 1 || told[0].Title != "Your top-up of £5.00 failed" || p.Mails() {
		t.Errorf("%+v, %v", told, err)
	}
}

// TestTwoWorkersSendOneLetter each.
func TestTwoWorkersSendOneLetter(t *testing.T) {
	p := newPost(t, nil)
	for i := range 30 {
		p.raise(notice.Notice{OrgID: p.org, Kind: notice.Kinds[i%len(notice.Kinds)], Subject: fmt.Sprint(i), Data: map[string]any{"amount_pence": 5_00}})
	}
	done := make(chan error)
	for range 4 {
		go func() { done <- p.Work(t.Context()) }()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	seen := map[string]int{}
	for _, l := range p.mail.Letters(owner) {
		seen[l.Header["Message-Id"][0]]++
	}
	for id, n := range seen {
		if n > 1 {
			t.Errorf("letter %s was sent %d times", id, n)
		}
	}
	var about int
	dbtest.Get(t, p.dbURL, &about, `SELECT coalesce(sum(cardinality(notices)), 0) FROM notice_mails WHERE state = 'sent'`)
	if about != 30 {
		t.Errorf("%d notices were told, want 30", about)
	}
}

// TestEveryKindHasWords, with figures and without.
func TestEveryKindHasWords(t *testing.T) {
	p := newPost(t, nil)
	for _, k := range notice.Kinds {
		p.raise(notice.Notice{OrgID: p.org, Kind: k, Subject: "bare"})
		p.raise(notice.Notice{OrgID: p.org, Kind: k, Subject: "full", Data: map[string]any{
			"amount_pence": 12_34, "available_pence": 1, "mark_pence": 2, "automatic": true, "authentication": true, "brand": "visa", "last4": "4242",
			"reason": "The card was removed.", "status": "won", "phone_number": "+14155550101", "number_id": uuid.NewString(), "needed_pence": 3, "owed_pence": 4,
			"debt_pence": 5, "due_at": "2026-04-02T09:30:00Z", "release_at": "2026-04-16T09:30:00Z",
		}})
	}
	told, err := p.List(t.Context(), p.org, uuid.Nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range told {
		if n.Title == "" || n.Text == "" || n.Link == "" || !strings.HasPrefix(n.Path, "/") || n.Kind.About() == string(n.Kind) {
			t.Errorf("%s: %+v", n.Kind, n)
		}
	}
	if len(told) != 2*len(notice.Kinds) {
		t.Errorf("%d notices", len(told))
	}
	page, err := p.List(t.Context(), p.org, told[4].ID, 3)
	if err != nil || len(page) != 3 || page[0].ID != told[5].ID {
		t.Errorf("older than the fifth: %v, %v", page, err)
	}
	if others, err := p.List(t.Context(), p.other, uuid.Nil, 100); err != nil || len(others) != 0 {
		t.Errorf("another organisation sees %v, %v", others, err)
	}
}

// TestNumbersByMail: what happened to a number is told with what it costs, by when, and what to do; each once.
func TestNumbersByMail(t *testing.T) {
	p := newPost(t, nil)
	id := uuid.NewString()
	for kind, data := range map[notice.Kind]map[string]any{
		notice.NumberRentDue:    {"amount_pence": 1_19, "needed_pence": 2_38, "available_pence": 40, "debt_pence": 0, "due_at": "2026-04-02T09:30:00Z"},
		notice.NumberRentUnpaid: {"amount_pence": 1_19, "owed_pence": 19, "release_at": "2026-04-16T09:30:00Z"},
		notice.NumberReleased:   {"debt_pence": 19},
		notice.NumberFailed:     {"amount_pence": 10_00, "reason": "Somebody else has taken this number. Nothing was charged."},
	} {
		data["number_id"], data["phone_number"] = id, "+14155550101"
		for range 2 {
			p.raise(notice.Notice{OrgID: p.org, Kind: kind, Subject: id, Data: data})
			p.work()
		}
	}
	letters := map[string]sandbox.Letter{}
	for _, l := range p.mail.Letters(owner) {
		letters[l.Subject] = l
	}
	if n := len(p.mail.Letters(owner)); n != 4 || len(letters) != 4 {
		t.Errorf("%d letters: %q", n, p.got(owner))
	}
	for subject, says := range map[string][]string{
		"Your wallet does not cover the rent of +1 415-555-0101": {"£1.19, is charged on 2 April 2026", "£0.40 is available", "£2.38 of rent is due by then", "Top up: https://ringfence.example/wallet"},
		"The rent of +1 415-555-0101 is not paid":                {"did not have £0.19", "before 16 April 2026", "released", "Top up: https://ringfence.example/wallet"},
		"+1 415-555-0101 is released":                            {"£0.19 in all, is still owed", "See the number: https://ringfence.example/numbers/" + id},
		"+1 415-555-0101 could not be bought":                    {"Somebody else has taken this number. Nothing was charged. The £10.00 that was set aside for it is yours again.", "https://ringfence.example/numbers"},
	} {
		for _, words := range says {
			if text := strings.Join(strings.Fields(letters[subject].Text), " "); !strings.Contains(text, words) {
				t.Errorf("%q does not say %q:\n%s", subject, words, letters[subject].Text)
			}
		}
	}
	p.wants(viewer)
	p.wants(other)
}
