package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"ringfence/db/embedded"
	"ringfence/internal/auth"
	"ringfence/internal/config"
	"ringfence/internal/notice"
)

type doctorCmd struct{}

// Run shows the configuration, checks what can be reached, and fails if something that is needed is not there.
func (doctorCmd) Run(e *env) error {
	cfg, err := config.Load(e.getenv)
	if err != nil {
		return err
	}
	say(e.stdout, "Configuration (%s)", cfg.Env)
	for _, s := range cfg.Masked() {
		say(e.stdout, "  %-30s %-44s %s", s.Name, s.Value, s.Source)
	}
	say(e.stdout, "\nChecks")
	failed := false
	for _, c := range diagnoses(cfg, e) {
		detail, err := c.run(e.ctx)
		switch {
		case err != nil && c.needed:
			failed = true
			say(e.stdout, "  FAILED  %-12s %v", c.name, err)
		case err != nil:
			say(e.stdout, "  note    %-12s %v", c.name, err)
		default:
			say(e.stdout, "  ok      %-12s %s", c.name, detail)
		}
	}
	if failed {
		return errFailed
	}
	return nil
}

// diagnosis is one thing that doctor looks at. What is not needed only gives a note.
type diagnosis struct {
	name   string
	needed bool
	run    func(context.Context) (string, error)
}

func diagnoses(cfg config.Config, e *env) []diagnosis {
	list := []diagnosis{{"database", true, func(ctx context.Context) (string, error) { return checkDatabase(ctx, cfg, e) }}}
	if cfg.Development() {
		list = append(list, diagnosis{"data", true, func(context.Context) (string, error) {
			info, err := os.Stat(cfg.DataDir)
			if err != nil {
				return "", fmt.Errorf("the data directory cannot be used: %w", err)
			}
			return fmt.Sprintf("%s is there (%s)", cfg.DataDir, info.Mode()), nil
		}})
	}
	if cfg.Auth == config.AuthSupabase {
		list = append(list, diagnosis{"supabase", true, func(ctx context.Context) (string, error) {
			return cfg.SupabaseURL + " answers and takes the key", auth.NewSupabase(cfg.SupabaseURL, cfg.SupabaseAnonKey.Reveal()).Reachable(ctx)
		}})
	}
	list = append(list, diagnosis{"mail", cfg.SMTPURL.IsSet() && cfg.LocalMailAddr() == "", func(ctx context.Context) (string, error) { return checkMail(ctx, cfg, e) }})
	hosted := func(base string) bool { // `serve` starts it
		return cfg.SandboxAddr != "" && (base == "http://"+cfg.SandboxAddr || strings.HasPrefix(base, "http://"+cfg.SandboxAddr+"/"))
	}
	return append(list,
		diagnosis{"stripe", !hosted(cfg.StripeAPIBase), func(ctx context.Context) (string, error) { return checkStripe(ctx, cfg) }},
		diagnosis{"twilio", cfg.TwilioAccountSID != "" && !hosted(cfg.TwilioAPIBase), func(ctx context.Context) (string, error) { return checkTwilio(ctx, cfg) }},
		diagnosis{"vapi", cfg.VapiAPIKey.IsSet() && !hosted(cfg.VapiAPIBase), func(ctx context.Context) (string, error) { return checkVapi(ctx, cfg) }},
		diagnosis{"address", false, func(ctx context.Context) (string, error) {
			l, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Addr)
			if err != nil {
				return "", fmt.Errorf("%s is taken, perhaps by a running server: %w", cfg.Addr, err)
			}
			return cfg.Addr + " is free", l.Close()
		}})
}

// checkDatabase opens the database as the program does. Without one configured it only looks for the binaries, so that
// a question does not start a server.
func checkDatabase(ctx context.Context, cfg config.Config, e *env) (string, error) {
	if !cfg.DatabaseURL.IsSet() {
		dir, err := embedded.FindBinaries() //nolint:contextcheck // looks at files and asks a binary for its version
		if err != nil {
			return "", err
		}
		return "embedded, with the binaries in " + dir, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	a := &app{cfg: cfg, log: newLog(e.stderr, cfg.LogLevel)}
	if err := a.openDatabase(ctx); err != nil {
		return "", errors.Join(err, a.close()) //nolint:contextcheck // as in openApp
	}
	return "reachable, migrated, and the working roles are bound by row-level security", errors.Join(a.db.Ping(ctx), a.close()) //nolint:contextcheck // as in openApp
}

// checkMail asks the mail server whether it takes our name and password.
func checkMail(ctx context.Context, cfg config.Config, e *env) (string, error) {
	if !cfg.SMTPURL.IsSet() {
		return "off: SMTP_URL is not set, so notices are shown on the pages and not mailed", nil
	}
	s, err := notice.New(notice.Options{Log: newLog(e.stderr, cfg.LogLevel), SMTPURL: cfg.SMTPURL.Reveal(), From: cfg.MailFrom, Timeout: 10 * time.Second})
	if err != nil {
		return "", err
	}
	return "the server answers and takes what it is shown", s.Reach(ctx)
}

// checkStripe asks Stripe who the key belongs to by way of the cheapest list there is.
func checkStripe(ctx context.Context, cfg config.Config) (string, error) {
	return checkProvider(ctx, cfg.StripeAPIBase, "/v1/events?limit=1", func(r *http.Request) { r.SetBasicAuth(cfg.StripeSecretKey.Reveal(), "") })
}

// checkTwilio asks Twilio about the account itself.
func checkTwilio(ctx context.Context, cfg config.Config) (string, error) {
	if cfg.TwilioAccountSID == "" {
		return "off: TWILIO_ACCOUNT_SID is not set, so there are no texts and no numbers", nil
	}
	return checkProvider(ctx, cfg.TwilioAPIBase, "/2010-04-01/Accounts/"+cfg.TwilioAccountSID+".json", func(r *http.Request) {
		r.SetBasicAuth(cfg.TwilioAccountSID, cfg.TwilioAuthToken.Reveal())
	})
}

// checkVapi asks Vapi for an assistant, whichever.
func checkVapi(ctx context.Context, cfg config.Config) (string, error) {
	if !cfg.VapiAPIKey.IsSet() {
		return "off: VAPI_API_KEY is not set, so there are no agents, calls and numbers", nil
	}
	return checkProvider(ctx, cfg.VapiAPIBase, "/assistant?limit=1", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+cfg.VapiAPIKey.Reveal()) })
}

// checkProvider asks a provider for something that only our key gets, and changes nothing there.
func checkProvider(ctx context.Context, base, path string, identify func(*http.Request)) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, http.NoBody)
	if err != nil {
		return "", fmt.Errorf("%s is no address: %w", base, err)
	}
	identify(req)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("couldn't reach %s (in development `ringfence serve` starts the sandbox there): %w", base, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s refused the key: %s", base, res.Status)
	}
	return base + " answers and takes the key", nil
}
