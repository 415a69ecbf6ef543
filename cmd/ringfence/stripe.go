package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/auth"
	"ringfence/internal/config"
	"ringfence/internal/payments"
)

type stripeCmd struct {
	Setup     stripeSetupCmd     `cmd:"" help:"Create or update the webhook endpoint for RINGFENCE_BASE_URL. Repeating changes nothing. A new one's secret is the last line of the output, this once."`
	List      stripeListCmd      `cmd:"" help:"List the webhook endpoints for RINGFENCE_BASE_URL."`
	Rotate    stripeRotateCmd    `cmd:"" help:"Replace the webhook endpoint and its secret: first a second one beside it, then with --retire the end of the first."`
	Test      stripeTestCmd      `cmd:"" help:"Send the running server a sample event, twice, and forged ones; check what comes of it and take it back. Exits 1 if anything is not as it should be."`
	Reconcile stripeReconcileCmd `cmd:"" help:"Compare our books with Stripe's and credit what was paid and not credited."`
}

// withEndpoints runs fn with the endpoints of the configured account. Before there is an endpoint there is no secret of it,
// so here alone none needs to be set.
func withEndpoints(e *env, fn func(ctx context.Context, m *payments.Endpoints, cfg config.Config) error) error {
	cfg, err := config.Load(func(name string) string {
		value := e.getenv(name)
		if name == "STRIPE_WEBHOOK_SECRET" && strings.TrimSpace(value) == "" && e.getenv("RINGFENCE_ENV") == string(config.Production) {
			return "whsec_" + rand.Text() + rand.Text() // of no use to anybody
		}
		return value
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(e.ctx, time.Minute)
	defer cancel()
	return fn(ctx, payments.NewEndpoints(cfg.StripeSecretKey.Reveal(), cfg.StripeAPIBase, cfg.BaseURL), cfg)
}

type stripeSetupCmd struct{}

// Run sets the endpoint up and says what it did.
func (stripeSetupCmd) Run(e *env) error {
	return withEndpoints(e, func(ctx context.Context, m *payments.Endpoints, cfg config.Config) error {
		p, done, err := m.Setup(ctx)
		if err != nil && !errors.Is(err, payments.ErrOtherVersion) {
			return err
		}
		say(e.stdout, "Webhook endpoint %s: %s. It sends %d types of events to %s, API version %s.", p.ID, done, len(p.Events), p.URL, p.APIVersion)
		if p.Secret != "" {
			say(e.stdout, "Set STRIPE_WEBHOOK_SECRET to its secret and restart every process. It is shown this once:")
			sandboxNote(e, cfg)
			say(e.stdout, "%s", p.Secret)
		}
		return err
	})
}

// sandboxNote says what a secret of the sandbox's is not good for.
func sandboxNote(e *env, cfg config.Config) {
	if cfg.SandboxAddr != "" && cfg.StripeAPIBase == "http://"+cfg.SandboxAddr {
		say(e.stdout, "(This is the sandbox: it signs with the secret that it was started with, whatever its endpoints say.)")
	}
}

type stripeListCmd struct{}

// Run lists the endpoints.
func (stripeListCmd) Run(e *env) error {
	return withEndpoints(e, func(ctx context.Context, m *payments.Endpoints, _ config.Config) error {
		list, err := m.List(ctx)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			say(e.stdout, "There is no webhook endpoint for %s. Run `ringfence stripe setup`.", m.URL())
		}
		for _, p := range list {
			state := "right"
			if !p.Right() {
				state = "wrong: run `ringfence stripe setup`"
			}
			enabled := "enabled"
			if !p.Enabled {
				enabled = "disabled"
			}
			say(e.stdout, "%s  made %s UTC  %s  API version %s  %d types of events  %s", p.ID, p.CreatedAt.Format("2006-01-02 15:04"), enabled, p.APIVersion, len(p.Events), state)
		}
		return nil
	})
}

type stripeRotateCmd struct {
	Retire bool `help:"Delete the older endpoint. Its secret is of no use after that."`
}

// Run does the first or the second half of a rotation.
func (c stripeRotateCmd) Run(e *env) error {
	return withEndpoints(e, func(ctx context.Context, m *payments.Endpoints, cfg config.Config) error {
		if c.Retire {
			stays, gone, err := m.Retire(ctx)
			for _, p := range gone {
				say(e.stdout, "Webhook endpoint %s is deleted. Take its secret out of STRIPE_WEBHOOK_SECRET and restart every process.", p.ID)
			}
			if err != nil {
				return err
			}
			say(e.stdout, "Webhook endpoint %s is the only one for %s.", stays.ID, stays.URL)
			return nil
		}
		fresh, old, err := m.Rotate(ctx)
		if err != nil {
			return err
		}
		say(e.stdout, "Webhook endpoint %s is made beside %s. Stripe sends every event to both; the second copy is answered as a duplicate.", fresh.ID, old.ID)
		say(e.stdout, "1. At once: set STRIPE_WEBHOOK_SECRET to the new secret, a comma and the old one, and restart every process.")
		say(e.stdout, "   Until then the new endpoint's copies are refused, and Stripe repeats them.")
		say(e.stdout, "2. ringfence stripe test")
		say(e.stdout, "3. ringfence stripe rotate --retire, then set STRIPE_WEBHOOK_SECRET to the new secret alone.")
		say(e.stdout, "The new secret is shown this once:")
		sandboxNote(e, cfg)
		say(e.stdout, "%s", fresh.Secret)
		return nil
	})
}

// The organisation of the webhook test, and the user whose top-ups it has. Nobody knows its password or is a member.
const (
	testOrg  = "Stripe webhook test"
	testUser = "stripe-webhook-test@ringfence.invalid"
)

type stripeTestCmd struct {
	Server   string        `help:"Address of the server to test, without a path; RINGFENCE_BASE_URL when it is not given."`
	Patience time.Duration `help:"How long to wait for the credit." default:"30s"`
}

// webhookTest is one under way.
type webhookTest struct {
	*app

	out    io.Writer
	url    string
	failed int
}

// Run tests the way from the webhook to the wallet.
func (c stripeTestCmd) Run(e *env) error {
	return withApp(e, func(ctx context.Context, a *app) error {
		server := c.Server
		if server == "" {
			server = a.cfg.BaseURL
		}
		t := &webhookTest{app: a, out: e.stdout, url: server + payments.WebhookPath}
		org, user, err := a.testTenant(ctx)
		if err != nil {
			return err
		}
		sample, err := a.payments.NewSample(ctx, org, user)
		if err != nil {
			return err
		}
		say(e.stdout, "Sample event %s to %s", sample.EventID, t.url)
		t.forged(ctx, sample)
		t.delivered(ctx, sample)
		t.credited(ctx, sample, c.Patience)
		after, err := a.payments.SettleSamples(ctx, org, sample.EventID, audit.CLI(login(e.getenv)))
		t.check(err == nil && after.Balance == 0, "what was credited is taken back", fmt.Sprintf("the balance is %s, %v", after.Balance, err))
		if t.failed > 0 {
			say(e.stdout, "%d checks failed.", t.failed)
			return errFailed
		}
		say(e.stdout, "The way from the webhook to the wallet is open.")
		return nil
	})
}

// check prints one result.
func (t *webhookTest) check(ok bool, promise, otherwise string) {
	if ok {
		say(t.out, "ok      %s", promise)
		return
	}
	t.failed++
	say(t.out, "FAILED  %s: %s", promise, otherwise)
}

// send posts a body with a signature and gives the answer.
func (t *webhookTest) send(ctx context.Context, body []byte, signature string) (status int, answer struct{ Received, Duplicate bool }, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(body))
	if err != nil {
		return 0, answer, err
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("Stripe-Signature", signature)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, answer, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	if err != nil {
		return 0, answer, err
	}
	if res.StatusCode == http.StatusOK {
		err = json.Unmarshal(raw, &answer)
	}
	return res.StatusCode, answer, err
}

// forged sends what must be refused and leave nothing behind.
func (t *webhookTest) forged(ctx context.Context, sample payments.Sample) {
	secret := t.cfg.StripeWebhookSecrets[0].Reveal()
	other := append(bytes.Clone(sample.Body), ' ')
	for _, f := range []struct{ name, signature string }{
		{"with a secret that is not ours", payments.Sign(sample.Body, now(), "whsec_"+rand.Text())},
		{"for another body", payments.Sign(other, now(), secret)},
		{"ten minutes ago", payments.Sign(sample.Body, now().Add(-10*time.Minute), secret)},
		{"not at all", ""},
	} {
		status, _, err := t.send(ctx, sample.Body, f.signature)
		t.check(err == nil && status == http.StatusBadRequest, "an event signed "+f.name+" is refused", fmt.Sprintf("the answer is %d, %v", status, err))
	}
	_, stored, err := t.payments.SampleCredits(ctx, sample)
	t.check(err == nil && !stored, "what was refused is not stored", fmt.Sprintf("it is, %v", err))
}

// delivered sends the signed event twice, and with each secret that is configured.
func (t *webhookTest) delivered(ctx context.Context, sample payments.Sample) {
	for i, secret := range t.cfg.StripeWebhookSecrets {
		signature := payments.Sign(sample.Body, now(), secret.Reveal())
		which := "secret " + strconv.Itoa(i+1)
		if i == 0 {
			status, answer, err := t.send(ctx, sample.Body, signature)
			t.check(err == nil && status == http.StatusOK && answer.Received && !answer.Duplicate, "the event is taken (with "+which+")",
				fmt.Sprintf("the answer is %d %+v, %v", status, answer, err))
		}
		status, answer, err := t.send(ctx, sample.Body, signature)
		t.check(err == nil && status == http.StatusOK && answer.Duplicate, "the event again is a duplicate (with "+which+")",
			fmt.Sprintf("the answer is %d %+v, %v", status, answer, err))
	}
}

// credited waits for the credit.
func (t *webhookTest) credited(ctx context.Context, sample payments.Sample, patience time.Duration) {
	deadline := now().Add(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		credits, _, err := t.payments.SampleCredits(ctx, sample)
		if credits > 0 || err != nil || now().After(deadline) || ctx.Err() != nil {
			t.check(err == nil && credits == 1, fmt.Sprintf("%s are credited, once", sample.Amount),
				fmt.Sprintf("%d times within %s, %v; do workers run on this database?", credits, patience, err))
			return
		}
		<-tick.C
	}
}

// testTenant gives the organisation of the webhook test and its user, made at the first time.
func (a *app) testTenant(ctx context.Context) (org, user uuid.UUID, err error) {
	err = a.db.InSystemTx(ctx, "the organisation of the webhook test", func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtext($1))`, testOrg); err != nil {
			return fmt.Errorf("couldn't lock the webhook test: %w", err)
		}
		if org, err = auth.OrganizationByName(ctx, tx, testOrg); err != nil {
			return err
		}
		if org == uuid.Nil {
			if org, err = a.auth.CreateOrganization(ctx, tx, testOrg); err != nil {
				return err
			}
		}
		if user, err = auth.UserByEmail(ctx, tx, testUser); err != nil || user != uuid.Nil {
			return err
		}
		u, err := a.auth.CreateUser(ctx, tx, testUser, rand.Text()+rand.Text(), auth.PlatformNone)
		user = u.ID
		return err
	})
	if err != nil {
		return uuid.Nil, uuid.Nil, err
	}
	return org, user, a.openWallet(ctx, org)
}

type stripeReconcileCmd struct {
	Since   string `required:"" help:"How far back: a time such as 2h or 30d, a day such as 2026-11-01 (UTC), or a moment such as 2026-11-01T08:00:00Z."`
	Credits bool   `help:"Look for every credit of ours of that time at Stripe as well."`
}

// Run reconciles and prints the report.
func (c stripeReconcileCmd) Run(e *env) error {
	since, err := parseSince(c.Since, now())
	if err != nil {
		return err
	}
	return withApp(e, func(ctx context.Context, a *app) error {
		r, err := a.payments.Reconcile(ctx, payments.Span{Kind: payments.ReconcileManual, Since: since, Until: now(), Credits: c.Credits})
		say(e.stdout, "Compared with Stripe, from %s to %s:", r.Span.Since.UTC().Format(time.RFC3339), r.Span.Until.UTC().Format(time.RFC3339))
		say(e.stdout, "  looked at      %d events, payments, refunds, disputes and credits", r.LookedAt)
		say(e.stdout, "  healed         %d payments, %s, median delay %s", r.Healed, r.HealedPence, r.MedianDelay.Round(time.Second))
		say(e.stdout, "  reversals      %d events about refunds and disputes that had not come", r.Reversals)
		say(e.stdout, "  disagreements  %d", len(r.Disagreements))
		for _, d := range r.Disagreements {
			say(e.stdout, "    %s: %s (event %s)", d.Subject, d.Reason, d.EventID)
		}
		return err
	})
}

var days = regexp.MustCompile(`^([0-9]{1,4})d$`)

// parseSince reads how far back to look. Stripe keeps events for 30 days; payments, refunds and disputes for good.
func parseSince(text string, now time.Time) (since time.Time, err error) {
	if m := days.FindStringSubmatch(text); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			return time.Time{}, fmt.Errorf("couldn't read --since: %w", err)
		}
		since = now.AddDate(0, 0, -n)
	} else if d, derr := time.ParseDuration(text); derr == nil {
		since = now.Add(-d)
	} else if since, err = time.Parse(time.DateOnly, text); err != nil {
		if since, err = time.Parse(time.RFC3339, text); err != nil {
			return time.Time{}, fmt.Errorf("--since is %q: give a time such as 2h or 30d, a day such as 2026-11-01, or a moment such as 2026-11-01T08:00:00Z", text)
		}
	}
	if !since.Before(now) {
		return time.Time{}, fmt.Errorf("--since is %q, which is not in the past", text)
	}
	return since, nil
}
