package webhooks_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/notice"
	"ringfence/internal/wallet/wallettest"
	"ringfence/internal/webhooks"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

const actor = audit.Actor("system:test")

// house is two organisations, and a program that listens.
type house struct {
	*webhooks.Service
	t          *testing.T
	url        string
	db         *db.DB
	clock      *dbtest.Clock
	org, other uuid.UUID
	listener   *listener
}

// listener is a customer's program: it answers as it is told and keeps what it got.
type listener struct {
	*httptest.Server
	mu     sync.Mutex
	got    []received
	answer func(w http.ResponseWriter, n int)
}

type received struct {
	header http.Header
	body   []byte
}

func (l *listener) all() []received {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]received(nil), l.got...)
}

// answers has the listener say status from now on.
func (l *listener) answers(status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answer = func(w http.ResponseWriter, _ int) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "said the program")
	}
}

func listen(t *testing.T) *listener {
	t.Helper()
	l := &listener{}
	l.answers(http.StatusNoContent)
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		l.mu.Lock()
		l.got = append(l.got, received{r.Header.Clone(), body})
		answer, n := l.answer, len(l.got)
		l.mu.Unlock()
		answer(w, n)
	}))
	t.Cleanup(l.Close)
	return l
}

func newKeyset(t *testing.T) *keyset.Handle {
	t.Helper()
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func binary(t *testing.T, h *keyset.Handle) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := insecurecleartextkeyset.Write(h, keyset.NewBinaryWriter(&b)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func newHouse(t *testing.T, change func(*webhooks.Options)) *house {
	t.Helper()
	h := &house{t: t, url: dbtest.URL(t), clock: &dbtest.Clock{}, listener: listen(t)}
	h.db = dbtest.OpenURL(t, h.url, h.clock.Now)
	h.org, h.other = wallettest.Org(t, h.db, "Harbour Dental", 50_00), wallettest.Org(t, h.db, "Second Tenant", 50_00)
	o := webhooks.Options{
		DB: h.db, Log: slog.New(slog.DiscardHandler), Now: time.Now, Keyset: binary(t, newKeyset(t)), AllowPrivate: true, Timeout: 5 * time.Second,
	}
	if change != nil {
		change(&o)
	}
	var err error
	if h.Service, err = webhooks.New(o); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *house) create(org uuid.UUID, url string, types ...webhooks.Type) (webhooks.Endpoint, string) {
	h.t.Helper()
	if len(types) == 0 {
		types = webhooks.Types
	}
	e, secret, _, err := h.Create(h.t.Context(), webhooks.NewEndpoint{OrgID: org, URL: url, Types: types, Key: uuid.NewString(), Actor: actor})
	if err != nil {
		h.t.Fatal(err)
	}
	return e, secret
}

func (h *house) work() {
	h.t.Helper()
	if err := h.Work(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

// low raises the notice by which a balance is told to be low, in a transaction of its own.
func (h *house) low(org uuid.UUID) {
	h.t.Helper()
	err := h.db.InTx(h.t.Context(), []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		return notice.Raise(ctx, tx, notice.Notice{OrgID: org, Kind: notice.LowBalance, Subject: uuid.NewString(), Data: map[string]any{"available_pence": 4_99, "mark_pence": 5_00}})
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) count(query string, args ...any) (n int) {
	h.t.Helper()
	dbtest.Get(h.t, h.url, &n, query, args...)
	return n
}

func wantField(t *testing.T, err error, kind fault.Kind, field string) {
	t.Helper()
	if f := fault.As(err); f == nil || f.Kind != kind || f.Field != field {
		t.Errorf("got %v, want kind %d beside %q", err, kind, field)
	}
}

// What is sent is what the specification has: headers, signature over the very bytes, and the same id with every attempt.
func TestMessagesFollowTheSpecification(t *testing.T) {
	h := newHouse(t, nil)
	_, secret := h.create(h.org, h.listener.URL+"/hook?a=b")
	if !strings.HasPrefix(secret, "whsec_") {
		t.Fatalf("the secret is written %.8s…", secret)
	}
	h.listener.answers(http.StatusInternalServerError)
	h.low(h.org)
	h.work()
	h.listener.answers(http.StatusOK)
	h.clock.Advance(6 * time.Second)
	h.work()
	h.work()
	got := h.listener.all()
	if len(got) != 2 {
		t.Fatalf("%d requests", len(got))
	}
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range got {
		if err := verifier.Verify(r.body, r.header); err != nil {
			t.Error(err)
		}
		if r.header.Get("Content-Type") != "application/json" || r.header.Get("Cookie") != "" || strings.Contains(r.header.Get("webhook-id"), ".") {
			t.Errorf("headers: %v", r.header)
		}
	}
	if got[0].header.Get("webhook-id") != got[1].header.Get("webhook-id") || !bytes.Equal(got[0].body, got[1].body) {
		t.Error("a repeat is not the same message")
	}
	var body struct {
		Type      string
		Timestamp time.Time
		Data      map[string]any
	}
	if err := json.Unmarshal(got[0].body, &body); err != nil || body.Type != "wallet.low" || body.Data["available_pence"] != 499. || !body.Timestamp.Equal(dbtest.Start) {
		t.Errorf("%s, %v", got[0].body, err)
	}
	wrong, err := standardwebhooks.NewWebhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	if wrong.Verify(got[0].body, got[0].header) == nil {
		t.Error("any secret verifies")
	}
	if n := h.count(`SELECT count(*) FROM webhook_endpoints WHERE position(convert_to($1, 'UTF8') IN sealed) > 0`, secret); n != 0 {
		t.Error("the secret is readable in the database")
	}
}

// What is told is written with what happened: of a transaction that is rolled back nothing is told, and only to whom it
// concerns, who asked for it.
func TestOutboxIsOfTheSameTransaction(t *testing.T) {
	h := newHouse(t, nil)
	other := listen(t)
	h.create(h.org, h.listener.URL, webhooks.WalletLow)
	h.create(h.org, h.listener.URL+"/second", webhooks.CallEnded)
	h.create(h.other, other.URL)
	err := h.db.InTx(t.Context(), []uuid.UUID{h.org}, func(ctx context.Context, tx *db.Tx) error {
		if err := notice.Raise(ctx, tx, notice.Notice{OrgID: h.org, Kind: notice.LowBalance, Subject: "1"}); err != nil {
			return err
		}
		return fault.New(fault.Conflict, "rolled back")
	})
	if !fault.Is(err, fault.Conflict) {
		t.Fatal(err)
	}
	h.work()
	if n := len(h.listener.all()) + h.count(`SELECT count(*) FROM webhook_events`); n != 0 {
		t.Errorf("%d things are told that did not happen", n)
	}
	h.low(h.org)
	err = h.db.InTx(t.Context(), []uuid.UUID{h.org}, func(ctx context.Context, tx *db.Tx) error {
		return notice.Raise(ctx, tx, notice.Notice{OrgID: h.org, Kind: notice.TopUpFailed, Subject: "1"})
	})
	if err != nil {
		t.Fatal(err)
	}
	h.work()
	if len(h.listener.all()) != 1 || len(other.all()) != 0 {
		t.Errorf("%d told, and %d another organisation's", len(h.listener.all()), len(other.all()))
	}
	for _, one := range []uuid.UUID{h.org, h.other} {
		list, err := h.List(t.Context(), one)
		if err != nil {
			t.Fatal(err)
		}
		foreign := h.other
		if one == h.other {
			foreign = h.org
		}
		for _, e := range list {
			if _, err := h.Endpoint(t.Context(), foreign, e.ID); !fault.Is(err, fault.NotFound) {
				t.Error(err)
			}
			for name, do := range map[string]error{
				"change": second(h.Change(t.Context(), foreign, e.ID, webhooks.Change{On: new(bool)}, actor)),
				"remove": h.Remove(t.Context(), foreign, e.ID, actor),
				"roll":   fourth(h.Roll(t.Context(), foreign, e.ID, "k", actor)),
				"test":   second(h.Test(t.Context(), foreign, e.ID, actor)),
			} {
				if !fault.Is(do, fault.NotFound) {
					t.Errorf("%s of another organisation's: %v", name, do)
				}
			}
			sent, err := h.Deliveries(t.Context(), foreign, e.ID, uuid.Nil, 10)
			if err != nil || len(sent) != 0 {
				t.Errorf("%v, %v", sent, err)
			}
		}
	}
	var delivery uuid.UUID
	dbtest.Get(t, h.url, &delivery, `SELECT id FROM webhook_deliveries`)
	if _, _, _, err := h.Delivery(t.Context(), h.other, delivery); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	if err := h.Resend(t.Context(), h.other, delivery, actor); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error                 { return err }
func fourth[A, B, C any](_ A, _ B, _ C, err error) error { return err }

// Attempts follow the schedule, each is kept with what was answered, and after the last it is given up until somebody asks.
func TestRetrySchedule(t *testing.T) {
	h := newHouse(t, nil)
	e, _ := h.create(h.org, h.listener.URL)
	h.listener.answers(http.StatusBadGateway)
	h.low(h.org)
	h.work()
	for i, pause := range []time.Duration{5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour} {
		if n := len(h.listener.all()); n != i+1 {
			t.Fatalf("%d attempts after %d pauses", n, i)
		}
		h.clock.Advance(pause * 8 / 10)
		h.work()
		if n := len(h.listener.all()); n != i+1 {
			t.Fatalf("tried again too soon, before %s", pause)
		}
		h.clock.Advance(pause * 4 / 10)
		h.work()
	}
	h.clock.Advance(30 * time.Hour)
	h.work()
	list, err := h.Deliveries(t.Context(), h.org, e.ID, uuid.Nil, 10)
	if err != nil || len(list) != 1 || list[0].State != webhooks.Failed || list[0].Attempts != 10 || list[0].Status != http.StatusBadGateway || list[0].Type != webhooks.WalletLow {
		t.Fatalf("%+v, %v", list, err)
	}
	d, body, attempts, err := h.Delivery(t.Context(), h.org, list[0].ID)
	if err != nil || d.ID != list[0].ID || !bytes.Equal(body, h.listener.all()[0].body) || len(attempts) != 10 || attempts[0].N != 10 || attempts[0].Status != 502 ||
		attempts[0].Answer != "said the program" || attempts[9].At.After(attempts[0].At) {
		t.Errorf("%+v %s %+v, %v", d, body, attempts, err)
	}
	h.listener.answers(http.StatusOK)
	if err := h.Resend(t.Context(), h.org, d.ID, actor); err != nil {
		t.Fatal(err)
	}
	h.work()
	if d, _, attempts, err = h.Delivery(t.Context(), h.org, d.ID); err != nil || d.State != webhooks.Delivered || len(attempts) != 11 || !attempts[0].Good() {
		t.Errorf("%+v, %v", d, err)
	}
	if n := h.count(`SELECT count(*) FROM audit_log WHERE action = 'webhook.resent' AND org_id = $1`, h.org); n != 1 {
		t.Errorf("%d audit rows", n)
	}
	h.clock.Advance(31 * 24 * time.Hour)
	if n, err := h.Sweep(t.Context()); err != nil || n != 1 || h.count(`SELECT count(*) FROM webhook_attempts`) != 0 {
		t.Errorf("%d were forgotten, %v", n, err)
	}
}

// An endpoint that fails for five days, or says that it is gone, is switched off, its owners are told, and nothing is sent
// until it is on again.
func TestEndpointsAreSwitchedOff(t *testing.T) {
	h := newHouse(t, nil)
	for name, status := range map[string]int{"failing": http.StatusInternalServerError, "gone": http.StatusGone} {
		l := listen(t)
		e, _ := h.create(h.org, l.URL)
		l.answers(status)
		before := h.count(`SELECT count(*) FROM notices WHERE kind = 'webhook_disabled'`)
		for range 7 {
			h.low(h.org)
			h.work()
			h.clock.Advance(24 * time.Hour)
		}
		got, err := h.Endpoint(t.Context(), h.org, e.ID)
		if err != nil || got.On() || got.DisabledWhy == "" {
			t.Fatalf("%s: %+v, %v", name, got, err)
		}
		if n := h.count(`SELECT count(*) FROM notices WHERE kind = 'webhook_disabled'`) - before; n != 1 {
			t.Errorf("%s: told %d times", name, n)
		}
		n := len(l.all())
		h.low(h.org)
		h.work()
		if len(l.all()) != n || h.count(`SELECT count(*) FROM webhook_deliveries WHERE endpoint_id = $1 AND state = 'queued'`, e.ID) != 0 {
			t.Errorf("%s: something is sent to it", name)
		}
		var one uuid.UUID
		dbtest.Get(t, h.url, &one, `SELECT id FROM webhook_deliveries WHERE endpoint_id = $1 LIMIT 1`, e.ID)
		if err := h.Resend(t.Context(), h.org, one, actor); !fault.Is(err, fault.Conflict) {
			t.Errorf("%s: %v", name, err)
		}
		l.answers(http.StatusOK)
		on := true
		if got, err = h.Change(t.Context(), h.org, e.ID, webhooks.Change{On: &on}, actor); err != nil || !got.On() || !got.FailingSince.IsZero() {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if err := h.Resend(t.Context(), h.org, one, actor); err != nil {
			t.Fatal(err)
		}
		h.work()
		if len(l.all()) != n+1 {
			t.Errorf("%s: %d more, want the one that was asked for", name, len(l.all())-n)
		}
		if err := h.Remove(t.Context(), h.org, e.ID, actor); err != nil {
			t.Fatal(err)
		}
	}
	// One good answer begins the count anew.
	e, _ := h.create(h.org, h.listener.URL)
	for i := range 8 {
		h.listener.answers(http.StatusInternalServerError)
		if i == 3 {
			h.listener.answers(http.StatusOK)
		}
		h.low(h.org)
		h.work()
		h.clock.Advance(24 * time.Hour)
	}
	if got, err := h.Endpoint(t.Context(), h.org, e.ID); err != nil || !got.On() || got.FailingSince.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
}

// While a secret is rolled both sign, for a day; the same key gives the same secret.
func TestRoll(t *testing.T) {
	h := newHouse(t, nil)
	e, old := h.create(h.org, h.listener.URL)
	rolled, fresh, repeated, err := h.Roll(t.Context(), h.org, e.ID, "once", actor)
	if err != nil || repeated || fresh == old || !rolled.RollsUntil.Equal(h.clock.Now().Add(24*time.Hour)) {
		t.Fatalf("%+v %t %v", rolled, repeated, err)
	}
	if _, again, repeated, err := h.Roll(t.Context(), h.org, e.ID, "once", actor); err != nil || !repeated || again != fresh {
		t.Errorf("%t %v", repeated, err)
	}
	verifies := func(secret string) bool {
		t.Helper()
		h.low(h.org)
		h.work()
		got := h.listener.all()
		v, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Fatal(err)
		}
		return v.Verify(got[len(got)-1].body, got[len(got)-1].header) == nil
	}
	if !verifies(old) || !verifies(fresh) {
		t.Error("one of the two does not sign")
	}
	h.clock.Advance(24 * time.Hour)
	if verifies(old) || !verifies(fresh) {
		t.Error("the old one signs on, or the new one does not")
	}
	if got, err := h.Endpoint(t.Context(), h.org, e.ID); err != nil || !got.RollsUntil.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
}

// Only public addresses are connected to, whatever the name says, and only https is taken.
func TestPrivateAddressesAreRefused(t *testing.T) {
	h := newHouse(t, func(o *webhooks.Options) { o.AllowPrivate = false })
	for _, bad := range []string{
		"", "example.com", "http://example.com/", "ftp://example.com/", "https://", "https://user:pass@example.com/", "https://example.com/#x", "https:///x", "https://exa mple.com/",
		"https://example.com/\x00", "https://" + strings.Repeat("a", 2100) + ".example/",
	} {
		_, _, _, err := h.Create(t.Context(), webhooks.NewEndpoint{OrgID: h.org, URL: bad, Types: webhooks.Types, Key: uuid.NewString(), Actor: actor})
		wantField(t, err, fault.Invalid, "url")
	}
	hit := listen(t)
	_, port, err := net.SplitHostPort(hit.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	places := []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "[fd00::1]", "[fe80::1]", "[64:ff9b::7f00:1]", "198.18.0.1", "2130706433", "0x7f.1"}
	for i, place := range places {
		h.create(h.org, "https://"+place+":"+port+fmt.Sprint("/", i))
	}
	h.low(h.org)
	h.work()
	if n := len(hit.all()); n != 0 {
		t.Fatalf("%d requests arrived", n)
	}
	var said []string
	dbtest.Select(t, h.url, &said, `SELECT e.url || ' ' || a.error FROM webhook_attempts a JOIN webhook_deliveries d ON d.id = a.delivery_id JOIN webhook_endpoints e ON e.id = d.endpoint_id WHERE a.status = 0`)
	if len(said) != len(places) {
		t.Fatalf("%d attempts are kept, want %d", len(said), len(places))
	}
	for _, s := range said {
		if !strings.Contains(s, "private network") && !strings.Contains(s, "could not be found") {
			t.Errorf("not told that it is private: %s", s)
		}
		if strings.Contains(s, "could not be found") && !strings.Contains(s, "2130706433") && !strings.Contains(s, "0x7f") {
			t.Errorf("not judged: %s", s)
		}
	}
}

// A program that redirects, stalls, floods or hangs up gets nothing more from us than an attempt.
func TestHostilePrograms(t *testing.T) {
	h := newHouse(t, func(o *webhooks.Options) { o.Timeout = 300 * time.Millisecond })
	elsewhere := listen(t)
	release := make(chan struct{})
	defer close(release) // before the listeners close, which wait for it
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, n int)
		status int
		says   string
	}{
		"redirect": {func(w http.ResponseWriter, _ int) {
			w.Header().Set("Location", elsewhere.URL)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}, 307, ""},
		"stall": {func(http.ResponseWriter, int) { <-release }, 0, "no answer in time"},
		"flood": {func(w http.ResponseWriter, _ int) {
			for range 10_000 {
				if _, err := w.Write(bytes.Repeat([]byte("x\xff\x00"), 1000)); err != nil {
					return
				}
			}
		}, 200, ""},
		"hang up": {func(http.ResponseWriter, int) { panic(http.ErrAbortHandler) }, 0, "broke off"},
	} {
		l := listen(t)
		l.answer = c.answer
		e, _ := h.create(h.org, l.URL)
		if _, err := h.Test(t.Context(), h.org, e.ID, actor); err != nil {
			t.Fatal(err)
		}
		h.work()
		list, err := h.Deliveries(t.Context(), h.org, e.ID, uuid.Nil, 10)
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		_, _, attempts, err := h.Delivery(t.Context(), h.org, list[0].ID)
		if err != nil || len(attempts) != 1 || attempts[0].Status != c.status || !strings.Contains(attempts[0].Error, c.says) || len(attempts[0].Answer) > 4096 {
			t.Errorf("%s: %.300v, %v", name, attempts, err)
		}
	}
	if len(elsewhere.all()) != 0 {
		t.Error("a redirect was followed")
	}
	// Who is asked to wait waits.
	l := listen(t)
	l.answer = func(w http.ResponseWriter, _ int) {
		w.Header().Set("Retry-After", "7200")
		w.WriteHeader(http.StatusTooManyRequests)
	}
	e, _ := h.create(h.org, l.URL)
	if _, err := h.Test(t.Context(), h.org, e.ID, actor); err != nil {
		t.Fatal(err)
	}
	h.work()
	list, err := h.Deliveries(t.Context(), h.org, e.ID, uuid.Nil, 10)
	if err != nil || !list[0].NextAt.Equal(h.clock.Now().Add(2*time.Hour)) {
		t.Errorf("%+v, %v", list, err)
	}
}

// However many rounds run at once, each message is sent once, and one endpoint gets a few at a time.
func TestRoundsShareTheWork(t *testing.T) {
	h := newHouse(t, nil)
	var most atomic.Int64
	slow := listen(t)
	slow.answer = func(w http.ResponseWriter, _ int) {
		most.Store(max(most.Load(), int64(h.count(`SELECT count(*) FROM webhook_deliveries WHERE org_id = $1 AND busy_until IS NOT NULL`, h.org))))
		w.WriteHeader(http.StatusOK)
	}
	h.create(h.org, slow.URL)
	h.create(h.other, h.listener.URL)
	for range 40 {
		h.low(h.org)
		h.low(h.other)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := h.Work(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	h.work()
	for _, l := range []*listener{slow, h.listener} {
		ids := map[string]bool{}
		for _, r := range l.all() {
			ids[r.header.Get("webhook-id")] = true
		}
		if len(l.all()) != 40 || len(ids) != 40 {
			t.Errorf("%d requests with %d messages, want 40", len(l.all()), len(ids))
		}
	}
	if n := most.Load(); n < 1 || n > 4 {
		t.Errorf("one endpoint got %d at a time", n)
	}
}

// An address is had once, a key makes one endpoint, and a request is checked whole.
func TestEndpoints(t *testing.T) {
	h := newHouse(t, nil)
	n := webhooks.NewEndpoint{OrgID: h.org, URL: h.listener.URL, Types: []webhooks.Type{webhooks.CallEnded, webhooks.WalletLow, webhooks.CallEnded}, Key: "k", Actor: actor}
	type made struct {
		id       uuid.UUID
		secret   string
		repeated bool
	}
	all := make([]made, 6)
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			e, secret, repeated, err := h.Create(t.Context(), n)
			if err != nil {
				t.Error(err)
			}
			all[i] = made{e.ID, secret, repeated}
		})
	}
	wg.Wait()
	first := 0
	for _, m := range all {
		if m.id != all[0].id || m.secret != all[0].secret {
			t.Error("one key made two endpoints, or two secrets")
		}
		if !m.repeated {
			first++
		}
	}
	if first != 1 || h.count(`SELECT count(*) FROM webhook_endpoints`) != 1 {
		t.Errorf("%d requests were the first", first)
	}
	other := n
	other.URL += "/other"
	_, _, _, err := h.Create(t.Context(), other)
	wantField(t, err, fault.Conflict, "Idempotency-Key")
	n.Key = "another"
	_, _, _, err = h.Create(t.Context(), n)
	wantField(t, err, fault.Conflict, "url")
	n.URL, n.Types = h.listener.URL+"/x", []webhooks.Type{"wallet.exploded"}
	_, _, _, err = h.Create(t.Context(), n)
	wantField(t, err, fault.Invalid, "types")
	n.Types = nil
	_, _, _, err = h.Create(t.Context(), n)
	wantField(t, err, fault.Invalid, "types")
	list, err := h.List(t.Context(), h.org)
	if err != nil || len(list) != 1 || len(list[0].Types) != 2 || list[0].Types[0] != webhooks.WalletLow {
		t.Fatalf("%+v, %v", list, err)
	}
	id, url, off := list[0].ID, h.listener.URL+"/new", false
	types := []webhooks.Type{webhooks.NumberActive}
	for range 2 {
		e, err := h.Change(t.Context(), h.org, id, webhooks.Change{URL: &url, Types: &types, On: &off}, actor)
		if err != nil || e.URL != url || e.On() || e.DisabledWhy != "" || len(e.Types) != 1 {
			t.Fatalf("%+v, %v", e, err)
		}
	}
	if n := h.count(`SELECT count(*) FROM audit_log WHERE action = 'webhook.endpoint_changed'`); n != 1 {
		t.Errorf("%d audit rows of one change", n)
	}
	if err := h.Remove(t.Context(), h.org, id, actor); err != nil {
		t.Fatal(err)
	}
	if err := h.Remove(t.Context(), h.org, id, actor); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	if n := h.count(`SELECT count(*) FROM webhook_endpoints WHERE sealed IS NOT NULL OR old_sealed IS NOT NULL`); n != 0 {
		t.Error("the secret of a removed endpoint stays")
	}
	h.create(h.org, url) // the address is free again
}

// Secrets are sealed anew under a new key, and open under it alone afterwards.
func TestReseal(t *testing.T) {
	old := newKeyset(t)
	h := newHouse(t, func(o *webhooks.Options) { o.Keyset = binary(t, old) })
	e, secret := h.create(h.org, h.listener.URL)
	if _, _, _, err := h.Roll(t.Context(), h.org, e.ID, "k", actor); err != nil {
		t.Fatal(err)
	}
	manager := keyset.NewManagerFromHandle(old)
	id, err := manager.Add(aead.AES256GCMKeyTemplate())
	if err == nil {
		err = manager.SetPrimary(id)
	}
	if err != nil {
		t.Fatal(err)
	}
	both, err := manager.Handle()
	if err != nil {
		t.Fatal(err)
	}
	service := func(k *keyset.Handle) *webhooks.Service {
		t.Helper()
		s, err := webhooks.New(webhooks.Options{DB: h.db, Log: slog.New(slog.DiscardHandler), Now: time.Now, Keyset: binary(t, k), AllowPrivate: true, Timeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for i := range 2 {
		r, err := service(both).Reseal(t.Context())
		if err != nil || r.Now != 1-i || r.Before != i || len(r.Stuck) != 0 {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	if err := manager.Delete(old.KeysetInfo().GetPrimaryKeyId()); err != nil {
		t.Fatal(err)
	}
	newest, err := manager.Handle()
	if err != nil {
		t.Fatal(err)
	}
	h.Service = service(newest)
	h.low(h.org)
	h.work()
	v, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	got := h.listener.all()
	if len(got) != 1 || v.Verify(got[0].body, got[0].header) != nil {
		t.Error("the old secret does not sign any more")
	}
	h.Service = service(newKeyset(t))
	h.low(h.org)
	h.work()
	if n := h.count(`SELECT count(*) FROM webhook_attempts WHERE error LIKE '%could not sign%'`); n != 1 || len(h.listener.all()) != 1 {
		t.Error("something was sent without a secret")
	}
	if r, err := h.Reseal(t.Context()); err != nil || len(r.Stuck) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}
