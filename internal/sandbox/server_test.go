package sandbox_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v76"

	"ringfence/internal/sandbox"
)

func TestMain(m *testing.M) {
	if file := os.Getenv("SANDBOX_TEST_CHILD"); file != "" {
		child(file)
		return
	}
	os.Exit(m.Run())
}

// child serves until it is killed.
func child(file string) {
	signal := make(chan struct{})
	s, err := sandbox.Start(context.Background(), sandbox.Options{
		Addr: os.Getenv("SANDBOX_TEST_ADDR"), StateFile: file, SettleAfter: -1, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		slog.Error("child", "error", err)
		os.Exit(1)
	}
	defer s.Close()
	<-signal
}

func TestOnlyLoopback(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.com:0", "10.0.0.1:80"} {
		_, err := sandbox.Start(t.Context(), sandbox.Options{Addr: addr, StateFile: filepath.Join(t.TempDir(), "s")})
		if !errors.Is(err, sandbox.ErrNotLoopback) {
			t.Errorf("%s: %v", addr, err)
		}
	}
	for _, addr := range []string{":0", "localhost:0", "127.0.0.2:0"} {
		b := start(t, func(o *sandbox.Options) { o.Addr = addr })
		if !strings.HasPrefix(b.URL(), "http://127.0.0.") {
			t.Errorf("%s: %s", addr, b.URL())
		}
	}
}

func TestOptionsThatCannotWork(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s")
	for name, o := range map[string]sandbox.Options{
		"no file":   {Addr: ":0"},
		"no secret": {Addr: ":0", StateFile: file, WebhookURL: "http://127.0.0.1:1/"},
		"no port":   {Addr: "127.0.0.1", StateFile: file},
	} {
		if s, err := sandbox.Start(t.Context(), o); err == nil {
			t.Errorf("%s: started", name)
			s.Close()
		}
	}
}

func TestAlreadyRunning(t *testing.T) {
	b := start(t)
	addr := strings.TrimPrefix(b.URL(), "http://")
	o := sandbox.Options{Addr: addr, StateFile: filepath.Join(t.TempDir(), "s")}
	if _, err := sandbox.Start(t.Context(), o); !errors.Is(err, sandbox.ErrAlreadyRunning) {
		t.Errorf("%v", err)
	}
	// Somebody else on the port is not a sandbox.
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	o.Addr = strings.TrimPrefix(other.URL, "http://")
	if _, err := sandbox.Start(t.Context(), o); err == nil || errors.Is(err, sandbox.ErrAlreadyRunning) {
		t.Errorf("%v", err)
	}
}

func TestKill9LosesNothingThatWasAnswered(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sandbox.db")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "SANDBOX_TEST_CHILD="+file, "SANDBOX_TEST_ADDR="+addr)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	url := "http://" + addr
	wait(t, "the child", func() bool {
		resp, err := http.Get(url + "/sandbox/health")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	api := newAPI(url, 0, 5*time.Second)
	var mu sync.Mutex
	paid := map[string]string{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				s, err := api.CheckoutSessions.New(sessionParams(5000, "tu"))
				if err != nil {
					return // killed
				}
				resp, err := noRedirect.Post(s.URL+"/pay", "", nil)
				if err != nil {
					return
				}
				resp.Body.Close()
				mu.Lock()
				paid[s.ID] = s.ID
				mu.Unlock()
			}
		})
	}
	wait(t, "100 payments", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(paid) >= 100
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	_ = cmd.Wait() // it was killed

	b := start(t, func(o *sandbox.Options) { o.StateFile = file })
	for id := range paid {
		if got := b.get(id); got.PaymentStatus != stripe.CheckoutSessionPaymentStatusPaid || got.PaymentIntent.LatestCharge == nil {
			t.Errorf("%s is %s after the kill", id, got.PaymentStatus)
		}
	}
	for _, p := range b.books().Payments {
		if p.Status != "succeeded" || p.AmountReceived != 5000 {
			t.Errorf("half a payment: %+v", p)
		}
	}
	t.Logf("%d payments answered before the kill, %s", len(paid), b.books())
}

func TestManyPaymentsAtOnce(t *testing.T) {
	const payers, each = 16, 16
	rc := newReceiver(t)
	b := start(t, to(rc))
	var wg sync.WaitGroup
	for range payers {
		wg.Go(func() {
			for range each {
				b.payOnce(t)
			}
		})
	}
	wg.Wait()
	wait(t, "all deliveries", func() bool { return len(rc.types()) == payers*each*4 })
	if books := b.books(); books.Totals["gbp"].Received != payers*each*5000 {
		t.Errorf("%s", books)
	}
}

// BenchmarkPayment measures creating and paying a session, from as many callers as there are processors.
func BenchmarkPayment(b *testing.B) {
	bx := start(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			bx.payOnce(b)
		}
	})
}

// payOnce pays a new session from any goroutine.
func (b *box) payOnce(t testing.TB) {
	s, err := b.api.CheckoutSessions.New(sessionParams(5000, "tu"))
	if err != nil {
		t.Error(err)
		return
	}
	resp, err := noRedirect.Post(s.URL+"/pay", "", nil)
	if err != nil {
		t.Error(err)
		return
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusSeeOther {
		t.Errorf("pay: %d", resp.StatusCode)
	}
}

func TestBooksOverHTTP(t *testing.T) {
	b := start(t)
	b.pay(5000, "tu_1")
	b.session(700, "tu_1")
	_, body, _ := b.page("/sandbox/stripe/books")
	got := decode[sandbox.Books](t, body)
	if len(got.Payments) != 1 || got.Payments[0].TopUpID != "tu_1" || got.Totals["gbp"].Net != 5000 || got.SessionsPerTopUp["tu_1"] != 2 {
		t.Errorf("%s", body)
	}
}
