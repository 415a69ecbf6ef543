package sandbox_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	netsmtp "net/smtp"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"ringfence/internal/sandbox"
)

const (
	mailFrom = "no-reply@ringfence.example"
	owner    = "owner@harbour.example"
	viewer   = "viewer@harbour.example"
)

// letterText is a message as programs write it: two versions of the text and a file.
const letterText = "From: Ringfence <no-reply@ringfence.example>\r\n" +
	"To: Owner <owner@harbour.example>\r\n" +
	"Subject: =?UTF-8?q?Your_balance_is_below_=C2=A35?=\r\n" +
	"Message-ID: <1@ringfence.example>\r\n" +
	"MIME-Version: 1.0\r\n" +
	"Content-Type: multipart/mixed; boundary=outer\r\n\r\n" +
	"--outer\r\nContent-Type: multipart/alternative; boundary=inner\r\n\r\n" +
	"--inner\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" +
	"=C2=A34.99 is left.\r\nTop up at http://127.0.0.1:8080/wallet?from=3Dmail\r\n" +
	"--inner\r\nContent-Type: text/html; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" +
	"<p>=A34.99 is left.</p><script>alert(1)</script>\r\n" +
	"--inner--\r\n" +
	"--outer\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=invoice.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
	"JVBERi0=\r\n" +
	"--outer--\r\n"

func withMail(o *sandbox.Options) { o.MailAddr = "127.0.0.1:0" }

func plainText(subject string) []byte {
	return []byte("Subject: " + subject + "\r\n\r\nHello.\r\n")
}

// sendMail hands a message over by the standard library's client.
func (b *box) sendMail(raw []byte, to ...string) error {
	return netsmtp.SendMail(b.Mail().Addr(), nil, mailFrom, to, raw)
}

func (b *box) mailTo(to string) []sandbox.Letter {
	b.t.Helper()
	status, body, _ := b.page("/sandbox/mail.json?to=" + to)
	if status != http.StatusOK {
		b.t.Fatalf("%d %s", status, body)
	}
	return decode[struct{ Messages []sandbox.Letter }](b.t, body).Messages
}

func TestMailIsShown(t *testing.T) {
	b := start(t, withMail)
	if err := b.sendMail([]byte(letterText), owner, viewer); err != nil {
		t.Fatal(err)
	}
	if err := b.sendMail(plainText("Second"), owner); err != nil {
		t.Fatal(err)
	}
	got := b.mailTo("OWNER@harbour.example")
	if len(got) != 2 || got[0].Subject != "Second" || got[0].Text != "Hello.\n" {
		t.Fatalf("to the owner, newest first: %+v", got)
	}
	if n := len(b.mailTo(viewer)); n != 1 {
		t.Errorf("%d messages to the viewer", n)
	}
	if n := len(b.mailTo("nobody@harbour.example")); n != 0 {
		t.Errorf("%d messages to nobody", n)
	}
	l := got[1]
	if l.Subject != "Your balance is below £5" || l.From != mailFrom || strings.Join(l.To, " ") != owner+" "+viewer || l.Fault != "" {
		t.Errorf("%+v", l)
	}
	if l.Text != "£4.99 is left.\nTop up at http://127.0.0.1:8080/wallet?from=mail" {
		t.Errorf("the text is %q", l.Text)
	}
	if !strings.HasPrefix(l.HTML, "<p>£4.99 is left.</p><script>") {
		t.Errorf("the HTML is %q", l.HTML)
	}
	if len(l.Attachments) != 1 || l.Attachments[0] != (sandbox.Attachment{Name: "invoice.pdf", Type: "application/pdf", Bytes: 5}) {
		t.Errorf("attached: %+v", l.Attachments)
	}
	if id := l.Header["Message-Id"]; len(id) != 1 || id[0] != "<1@ringfence.example>" {
		t.Errorf("the headers are %v", l.Header)
	}

	for path, wants := range map[string][]string{
		"/":                         {`href="/sandbox/mail"`},
		"/sandbox/mail":             {"Your balance is below £5", ">Second<", b.Mail().Addr()},
		"/sandbox/mail/" + l.ID:     {"£4.99 is left.", "&lt;script&gt;alert(1)", "invoice.pdf", "quoted-printable"},
		"/sandbox/mail?to=" + owner: {"Only those to " + owner},
	} {
		status, body, header := b.page(path)
		for _, want := range wants {
			if !strings.Contains(body, want) {
				t.Errorf("%s has no %q", path, want)
			}
		}
		if status != http.StatusOK || strings.Contains(body, "<script") || !strings.HasPrefix(header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: %d, policy %q", path, status, header.Get("Content-Security-Policy"))
		}
	}
	if status, _, _ := b.page("/sandbox/mail/99"); status != http.StatusNotFound {
		t.Errorf("an unknown message: %d", status)
	}
}

// Anybody may hand mail over, with a password or without.
func TestMailTakesAnyPassword(t *testing.T) {
	b := start(t, withMail)
	c, err := smtp.Dial(b.Mail().Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Auth(sasl.NewPlainClient("", "user", "password")); err != nil {
		t.Fatal(err)
	}
	if err := c.SendMail(mailFrom, []string{owner}, bytes.NewReader(plainText("Authenticated"))); err != nil {
		t.Fatal(err)
	}
	if got := b.mailTo(owner); len(got) != 1 || got[0].Subject != "Authenticated" {
		t.Errorf("%+v", got)
	}
}

// What cannot be read is shown as far as it can.
func TestMailThatCannotBeRead(t *testing.T) {
	b := start(t, withMail)
	for _, raw := range []string{
		"no header at all\r\n\r\nx",
		"Subject: cut off\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nbegun",
		"Subject: charset\r\nContent-Type: text/plain; charset=x-nobody\r\n\r\nplain",
		"Subject: encoding\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!",
		"Subject: type\r\nContent-Type: ;;;\r\n\r\nx",
		"",
	} {
		if err := b.sendMail([]byte(raw), owner); err != nil {
			t.Errorf("%q: %v", raw, err)
		}
	}
	got := b.mailTo(owner)
	if len(got) != 6 {
		t.Fatalf("%d messages", len(got))
	}
	for _, l := range got {
		if l.Fault == "" && l.Subject != "charset" && l.Subject != "" {
			t.Errorf("%q has no fault", l.Subject)
		}
		if status, _, _ := b.page("/sandbox/mail/" + l.ID); status != http.StatusOK {
			t.Errorf("%q is shown with %d", l.Subject, status)
		}
	}
	if l := got[3]; l.Text != "plain\n" {
		t.Errorf("an unknown charset leaves %q", l.Text)
	}
}

func TestMailIsBoundedAndSurvivesRestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sandbox.db")
	keep := func(o *sandbox.Options) { o.StateFile = file }
	b := start(t, withMail, keep)
	c, err := smtp.Dial(b.Mail().Addr())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 503 {
		if err := c.SendMail(mailFrom, []string{owner}, bytes.NewReader(plainText(fmt.Sprint(i)))); err != nil {
			t.Fatal(err)
		}
	}
	check := func(b *box) {
		t.Helper()
		got := b.Mail().Letters("")
		if len(got) != 500 || got[0].Subject != "502" || got[499].Subject != "3" {
			t.Fatalf("%d messages from %q to %q", len(got), got[0].Subject, got[len(got)-1].Subject)
		}
	}
	check(b)

	if ok, size := c.Extension("SIZE"); !ok || size != "1048576" {
		t.Error("the greatest size is not told")
	}
	err = c.SendMail(mailFrom, []string{owner}, bytes.NewReader(bytes.Repeat([]byte("0123456789abcdef\r\n"), 1<<16)))
	if e, ok := errors.AsType[*smtp.SMTPError](err); !ok || e.Code != 552 {
		t.Errorf("a message of more than a megabyte: %v", err)
	}
	c.Close()
	err = b.sendMail(plainText("many"), strings.Fields(strings.Repeat(owner+" ", 51))...)
	if err == nil || !strings.HasPrefix(err.Error(), "452") {
		t.Errorf("51 recipients: %v", err)
	}
	check(b)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	check(start(t, withMail, keep))
}

func TestMailFaults(t *testing.T) {
	b := start(t, withMail)
	for _, tc := range []struct {
		do, says string
		kept     bool
	}{
		{sandbox.Fault451, "451", false},
		{sandbox.Fault550, "550", false},
		{sandbox.FaultCut, "EOF", false},
		{sandbox.FaultCutAfterActing, "EOF", true},
		{sandbox.FaultDelay, "", true},
	} {
		if err := b.Mail().SetFaults(sandbox.Fault{Match: "mail owner@*", Do: tc.do, MS: 1}); err != nil {
			t.Fatal(err)
		}
		before := len(b.mailTo(owner))
		if err := b.sendMail(plainText("other"), viewer); err != nil {
			t.Errorf("%s strikes others: %v", tc.do, err)
		}
		err := b.sendMail(plainText(tc.do), owner)
		if (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) && !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: the client is told %v", tc.do, err)
		}
		if kept := len(b.mailTo(owner)) > before; kept != tc.kept {
			t.Errorf("%s: the message is kept: %v", tc.do, kept)
		}
		if err := b.sendMail(plainText("after"), owner); err != nil {
			t.Errorf("%s strikes twice: %v", tc.do, err)
		}
	}

	for _, bad := range []sandbox.Fault{
		{Match: "POST /v1/refunds", Do: sandbox.Fault451},
		{Match: "mail", Do: sandbox.Fault451},
		{Match: "mail *", Do: sandbox.Fault500},
		{Match: "mail *", Do: sandbox.FaultDrop},
	} {
		if b.Mail().SetFaults(bad) == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	if status, body := b.postJSON("/sandbox/mail/faults", `[{"match":"mail *","do":"550","times":-1}]`); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	for range 2 {
		if err := b.sendMail(plainText("refused"), owner); err == nil || !strings.HasPrefix(err.Error(), "550") {
			t.Errorf("%v", err)
		}
	}
	if _, body, _ := b.page("/sandbox/mail"); !strings.Contains(body, "until cleared") {
		t.Error("the page does not show the fault in force")
	}
}

// A port that something else has costs the mail, not the sandbox.
func TestMailAddressIsTaken(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	var log bytes.Buffer
	b := start(t, func(o *sandbox.Options) {
		o.MailAddr, o.Logger = other.Addr().String(), slog.New(slog.NewTextHandler(&log, nil))
	})
	if b.Mail().Addr() != "" {
		t.Errorf("listens at %s", b.Mail().Addr())
	}
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), other.Addr().String()) {
		t.Errorf("logged: %s", log.String())
	}
	if status, body, _ := b.page("/sandbox/mail"); status != http.StatusOK || !strings.Contains(body, "Nothing is taken") {
		t.Errorf("%d %s", status, body)
	}
}

func TestMailIsOnLoopbackOnly(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", "192.0.2.1:25", "mail.example.com:25"} {
		_, err := sandbox.Start(t.Context(), sandbox.Options{Addr: ":0", StateFile: filepath.Join(t.TempDir(), "s"), MailAddr: addr})
		if !errors.Is(err, sandbox.ErrNotLoopback) {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if b := start(t); b.Mail() != nil {
		t.Error("there is mail that nobody asked for")
	}
	if status, _, _ := start(t).page("/sandbox/mail"); status != http.StatusNotFound {
		t.Errorf("its page answers %d", status)
	}
}
