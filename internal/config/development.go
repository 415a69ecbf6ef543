package config

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// generated are the values that development makes for itself and keeps, and how.
var generated = []struct {
	name string
	make func(l *loader) (string, error)
}{
	{"RINGFENCE_SESSION_KEYS", drawn(func() string {
		key := make([]byte, minSessionKeyBytes)
		_, _ = rand.Read(key) // never fails: it ends the process instead
		return base64.StdEncoding.EncodeToString(key)
	})},
	{"STRIPE_SECRET_KEY", drawn(func() string { return "sk_test_" + rand.Text() })},
	{"STRIPE_WEBHOOK_SECRET", drawn(func() string { return "whsec_" + rand.Text() + rand.Text() })},
	{"TWILIO_ACCOUNT_SID", drawn(func() string { return "AC" + randomHex() })},
	{"TWILIO_AUTH_TOKEN", drawn(randomHex)},
	{"VAPI_API_KEY", drawn(rand.Text)},
	{"VAPI_WEBHOOK_SECRET", drawn(func() string { return rand.Text() + rand.Text() })},
	{"RINGFENCE_ENCRYPTION_KEYSET", func(*loader) (string, error) { return NewKeyset("") }},
	{"SMTP_URL", (*loader).freeMailURL},
}

// drawn is for what randomness alone makes.
func drawn(text func() string) func(*loader) (string, error) {
	return func(*loader) (string, error) { return text(), nil }
}

// freeMailURL names a port of this machine that nobody listens on and no other variable claims.
func (l *loader) freeMailURL() (string, error) {
	for {
		listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		addr := listener.Addr().String()
		if err := listener.Close(); err != nil {
			return "", err
		}
		if !slices.ContainsFunc(listening, func(name string) bool { return samePort(l.values[name], addr) }) {
			return "smtp://" + addr, nil
		}
	}
}

// randomHex is 128 bits as Twilio writes its ids and tokens.
func randomHex() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the process instead
	return hex.EncodeToString(b[:])
}

// fillDevelopment gives what is unset the values that make everything run on this machine alone.
func (l *loader) fillDevelopment() {
	l.fill("RINGFENCE_DRAIN_SECONDS", "0", FromDefault) // nobody shares requests out, and Ctrl-C is at once
	l.fill("RINGFENCE_SANDBOX_ADDR", "127.0.0.1:8091", FromDefault)
	l.fill("USD_TO_GBP_RATE", "0.79", FromDefault)
	l.fill("TWILIO_FROM_NUMBER", "+15005550006", FromDefault) // one of Twilio's own for tests
	l.fill("RINGFENCE_MAIL_FROM", "Ringfence <no-reply@ringfence.example>", FromDefault)
	l.fill("RINGFENCE_WEBHOOK_ALLOW_PRIVATE", "true", FromDefault)
	// URLs made of a bad address would only repeat its fault.
	if addr := l.values["RINGFENCE_ADDR"]; checkListenAddr(addr, true) == nil {
		l.fill("RINGFENCE_BASE_URL", "http://"+addr, FromDefault)
	}
	if addr := l.values["RINGFENCE_SANDBOX_ADDR"]; checkListenAddr(addr, true) == nil {
		l.fill("STRIPE_API_BASE", "http://"+addr, FromDefault)
		l.fill("TWILIO_API_BASE", "http://"+addr, FromDefault)
		l.fill("VAPI_API_BASE", "http://"+addr+"/vapi", FromDefault)
	}
	for _, g := range generated {
		if l.values[g.name] != "" {
			continue
		}
		value, err := keptSecret(l.values["RINGFENCE_DATA_DIR"], g.name, func() (string, error) { return g.make(l) })
		if err != nil {
			l.fault("RINGFENCE_DATA_DIR", &problem{
				"cannot keep the secrets that development makes (" + reason(err) + ")",
				"Give this user a directory to write to, or set " + g.name + " yourself.",
			})
			return
		}
		l.fill(g.name, value, FromGeneration)
	}
}

var errEmptySecret = errors.New("a file in its secrets directory is empty; delete it")

// reason is an error's cause without the path, which faults do not quote.
func reason(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err.Error()
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}

// keptSecret returns the secret of this name in the data directory and makes it first where there is none. Whoever
// comes first decides: the file appears whole, by a link that fails if it is there already, so processes that start at
// the same moment agree.
func keptSecret(dataDir, name string, generate func() (string, error)) (string, error) {
	// The data directory itself may be passed through, since the embedded database's own user has to reach its cluster
	// in there; nobody else can list it. The secrets lie one level down, closed.
	if err := os.MkdirAll(dataDir, 0o711); err != nil { //nolint:gosec // see above
		return "", err
	}
	dir := filepath.Join(dataDir, "secrets")
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	path := filepath.Join(dir, name)
	value, err := readSecret(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return value, err
	}

	made, err := generate()
	if err != nil {
		return "", err
	}
	tmp, err := os.CreateTemp(dir, ".new-*") // 0600
	if err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // its other name stays
	_, err = tmp.WriteString(made + "\n")
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return "", err
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return readSecret(path)
}

// readSecret reads a kept secret, and closes file and directory to others should they have been opened.
func readSecret(path string) (string, error) {
	for name, mode := range map[string]fs.FileMode{filepath.Dir(path): 0o700, path: 0o600} {
		info, err := os.Stat(name)
		if err != nil {
			return "", err
		}
		if info.Mode().Perm()&0o077 != 0 {
			if err := os.Chmod(name, mode); err != nil {
				return "", err
			}
		}
	}
	b, err := os.ReadFile(path) //nolint:gosec // the path is made of the configured directory and a constant
	if err != nil {
		return "", err
	}
	value := strings.TrimSpace(string(b))
	if value == "" {
		return "", errEmptySecret
	}
	return value, nil
}
