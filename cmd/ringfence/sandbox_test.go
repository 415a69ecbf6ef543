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
