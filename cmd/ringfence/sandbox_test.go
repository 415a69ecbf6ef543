package main

import (
	"bytes"
	"net"
	"net/smtp"
	"strings"
	"testing"

	"ringfence/internal/config"
)

// The sandbox takes mail where the configuration sends it. A port that something else has costs the mail alone.
func TestSandboxTakesMail(t *testing.T) {
	t.Parallel()
	vars := map[string]string{
		"RINGFENCE_ENV": "development", "RINGFENCE_DATA_DIR": t.TempDir(), "RINGFENCE_SANDBOX_ADDR": freeAddr(t),
		"SMTP_URL": "smtp://" + freeAddr(t),
	}
	var log bytes.Buffer
	run := func() (cfg config.Config, taking string, stop func() error) {
		t.Helper()
		cfg, err := config.Load(func(name string) string { return vars[name] })
		if err != nil {
			t.Fatal(err)
		}
		s, err := startSandbox(t.Context(), cfg, &app{log: newLog(&log, cfg.LogLevel)})
		if err != nil {
			t.Fatal(err)
		}
		return cfg, s.Mail().Addr(), s.Close
	}
	cfg, taking, stop := run()
	if "smtp://"+taking != cfg.SMTPURL.Reveal() {
		t.Errorf("mail is taken at %q, and sent to %s", taking, cfg.SMTPURL.Reveal())
	}
	if err := smtp.SendMail(taking, nil, "no-reply@ringfence.example", []string{"owner@harbour.example"}, []byte("Subject: x\r\n\r\nx\r\n")); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	other, err := net.Listen("tcp", taking)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	_, taking, stop = run()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if taking != "" || !strings.Contains(log.String(), `"level":"WARN"`) || !strings.Contains(log.String(), other.Addr().String()) {
		t.Errorf("mail is taken at %q; the log: %s", taking, &log)
	}
}

// TestDoctorAsksProviders: what a key opens is said, a key that opens nothing fails where a provider is no sandbox of ours, and
// no secret is told.
func TestDoctorAsksProviders(t *testing.T) {
	t.Parallel()
	p := serve(t)
	code, out, log := p.run(t, "doctor")
	if code != 0 {
		t.Errorf("exits %d:\n%s%s", code, out, log)
	}
	for _, name := range []string{"stripe", "twilio", "vapi"} {
		if line := diagnosed(out, name); !strings.HasPrefix(line, "ok") || !strings.HasSuffix(line, "answers and takes the key") {
			t.Errorf("of %s it says %q", name, line)
		}
	}
	elsewhere := environment{"RINGFENCE_SANDBOX_ADDR": freeAddr(t), "STRIPE_API_BASE": p.sandboxBase(), "TWILIO_API_BASE": p.sandboxBase(), "VAPI_API_BASE": p.sandboxBase() + "/vapi"}
	wrong := p.with(elsewhere).with(environment{"TWILIO_ACCOUNT_SID": "AC" + strings.Repeat("0", 32), "TWILIO_AUTH_TOKEN": canary + "0123456789abcdef", "VAPI_API_KEY": canary + "0123456789abcdef"})
	code, out, log = wrong.run(t, "doctor")
	for _, name := range []string{"twilio", "vapi"} {
		if line := diagnosed(out, name); !strings.HasPrefix(line, "FAILED") || !strings.Contains(line, "refused the key") {
			t.Errorf("of %s with another key it says %q", name, line)
		}
	}
	if code != 1 || strings.Contains(out+log, canary) {
		t.Errorf("exits %d, or tells a secret:\n%s%s", code, out, log)
	}
}

// diagnosed is what doctor says of one thing, from its verdict on.
func diagnosed(out, name string) string {
	for line := range strings.Lines(out) {
		if verdict := strings.Fields(line); len(verdict) > 2 && verdict[1] == name && (verdict[0] == "ok" || verdict[0] == "note" || verdict[0] == "FAILED") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}
