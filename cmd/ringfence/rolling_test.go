package main

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/lib/pq" // to hold a lock from outside
	"github.com/stripe/stripe-go/v76"

	"ringfence/db/dbtest"
	"ringfence/internal/payments"
)

// paidEvent is a signed event that credits a prepared top-up.
type paidEvent struct {
	intent, body string
	amount       int64
}

// paidEvents makes n open top-ups and the events that pay them. The sandbox is a process of its own, so that no server's end
// is its end.
func (e environment) paidEvents(t *testing.T, n int) (list []paidEvent) {
	t.Helper()
	e.spawn(t, "sandbox")
	until(t, "the sandbox", func() bool { return answers(e.sandboxBase() + "/sandbox/health") })
	code, out, log := e.run(t, "bench", "prepare", "--top-ups", fmt.Sprint(n))
	if code != 0 {
		t.Fatalf("bench prepare exits %d:\n%s", code, log)
	}
	for line := range strings.Lines(out) {
		var p struct {
			TopUp    string `json:"top_up_id"`
			Amount   int64  `json:"amount_pence"`
			Customer string `json:"customer"`
		}
		if err := json.Unmarshal([]byte(line), &p); err != nil {
			t.Fatal(err)
		}
		id := strings.ReplaceAll(p.TopUp, "-", "")
		list = append(list, paidEvent{"pi_" + id, fmt.Sprintf(`{"id":"evt_%s","object":"event","api_version":%q,"type":"payment_intent.succeeded","created":%d,"livemode":false,`+
			`"data":{"object":{"id":"pi_%s","object":"payment_intent","status":"succeeded","amount":%d,"amount_received":%d,"currency":"gbp","customer":%q,"livemode":false,"metadata":{"top_up_id":%q}}}}`,
			id, stripe.APIVersion, time.Now().Unix(), id, p.Amount, p.Amount, p.Customer, p.TopUp), p.Amount})
	}
	if len(list) != n {
		t.Fatalf("%d top-ups, want %d", len(list), n)
	}
	return list
}

// deliver posts an event once; net/http does not send it again by itself.
func (e environment) deliver(t *testing.T, client *http.Client, base string, p paidEvent) (status int, err error) {
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodPost, base+"/api/webhooks/stripe", strings.NewReader(p.body))
	if err != nil {
		return 0, err
	}
	req.GetBody = nil
	req.Header.Set("Stripe-Signature", payments.Sign([]byte(p.body), time.Now(), e["STRIPE_WEBHOOK_SECRET"]))
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, errors.Join(err, res.Body.Close())
}

// TestRollingUpgrade: the old process and the new one run side by side on one database, behind a proxy that keeps its
// connections and looks at /readyz now and then. Events arrive without a pause, and the old one is told to stop in their
// midst. It says that it is not ready and takes what comes until the proxy has heard of it, so that not one event is
// refused; and every payment is credited once, whoever had queued or begun its job.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	e := development(t, dbtest.EmptyURL(t)).with(environment{"RINGFENCE_DRAIN_SECONDS": "1"})
	const total, senders = 400, 8
	events := e.paidEvents(t, total)
	older := e.spawn(t, "serve")
	older.ready(t, e.base())
	next := e.with(environment{"RINGFENCE_ADDR": freeAddr(t)})
	newer := next.spawn(t, "serve")
	newer.ready(t, next.base())

	var left atomic.Bool // the proxy sends the old one nothing more
	looking := time.NewTicker(100 * time.Millisecond)
	defer looking.Stop()
	go func() {
		for answers(e.base() + "/readyz") {
			<-looking.C
		}
		left.Store(true)
	}()
	// A page that is open hears of its balance until the proxy would lead it elsewhere.
	reader := signedIn(t, e.base(), owner)
	stream, err := reader.http.Get(e.base() + "/wallet/stream") //nolint:bodyclose // closed below; the reader of its body is another
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan bool, 1)
	go func() {
		_, _ = io.Copy(io.Discard, stream.Body) // however it ends
		ended <- left.Load()
	}()
	defer stream.Body.Close()
	client := &http.Client{Timeout: longest, Transport: &http.Transport{MaxIdleConnsPerHost: senders}}
	var byOlder, byNewer atomic.Int64
	underway := make(chan struct{})
	queue := make(chan paidEvent)
	var group sync.WaitGroup
	for range senders {
		group.Go(func() {
			for p := range queue {
				base, by := e.base(), &byOlder
				if left.Load() {
					base, by = next.base(), &byNewer
				}
				if status, err := e.deliver(t, client, base, p); err != nil || status != http.StatusOK {
					t.Errorf("after %d by the old one and %d by the new one: %d, %v", byOlder.Load(), byNewer.Load(), status, err)
				}
				if by.Add(1) == total/4 && by == &byOlder {
					close(underway)
				}
			}
		})
	}
	stopped := make(chan int, 1)
	go func() {
		<-underway
		_ = older.cmd.Process.Signal(syscall.SIGTERM)
		<-older.ended
		stopped <- older.cmd.ProcessState.ExitCode()
	}()
	for i, p := range events {
		if i == total*3/4 { // the last quarter comes when it is gone
			<-underway
			select {
			case <-older.ended:
			case <-time.After(longest):
				t.Fatal("the old process does not end")
			}
		}
		queue <- p
	}
	close(queue)
	group.Wait()
	if !<-ended {
		t.Error("the live balance ended before the proxy had left")
	}
	if code := <-stopped; code != 0 {
		t.Errorf("the old process exits %d:\n%s", code, &older.log)
	}
	if byOlder.Load() < total/4 || byNewer.Load() < total/4 || byOlder.Load()+byNewer.Load() != total {
		t.Errorf("%d by the old one, %d by the new one, want all %d by both", byOlder.Load(), byNewer.Load(), total)
	}
	p := &program{next, &output{}}
	until(t, "every payment to be credited", func() bool { return p.count(t, `SELECT count(*) FROM credits`) == total })
	if n := p.count(t, `SELECT count(*) FROM stripe_events WHERE state = 'processed'`); n != total {
		t.Errorf("%d events are processed, want %d", n, total)
	}
	var want int64
	for _, p := range events {
		want += p.amount
	}
	if got := p.count(t, `SELECT sum(amount_pence) FROM credits`); int64(got) != want {
		t.Errorf("%dp credited, want %dp", got, want)
	}
	if code := newer.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("the new process exits %d:\n%s", code, &newer.log)
	}
	for _, p := range []*process{older, newer} {
		clean(t, p.log.String())
	}
	e.verify(t)
}

// TestStopFinishesWhatIsUnderWay: a request whose body is still on its way when the process is told to stop is answered,
// a job that is in the middle of its transaction commits, and neither has to be done again.
func TestStopFinishesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	e := development(t, dbtest.EmptyURL(t))
	events := e.paidEvents(t, 2)
	p := e.spawn(t, "serve")
	p.ready(t, e.base())
	prog := &program{e, &output{}}

	// A job stands still in the middle: somebody holds the wallets.
	pool, err := sql.Open("postgres", e["DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	hold, err := pool.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Rollback() //nolint:errcheck // done by then
	if _, err := hold.ExecContext(t.Context(), `SELECT FROM wallets ORDER BY org_id FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Timeout: longest}
	if status, err := e.deliver(t, client, e.base(), events[0]); err != nil || status != http.StatusOK {
		t.Fatalf("the first event: %d, %v", status, err)
	}
	until(t, "the job to wait for the wallets", func() bool {
		return prog.count(t, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) > 0
	})

	// A request stands still in the middle: half of its body is there.
	conn, err := net.Dial("tcp", e["RINGFENCE_ADDR"])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := events[1].body
	signature := payments.Sign([]byte(body), time.Now(), e["STRIPE_WEBHOOK_SECRET"])
	answer := bufio.NewReader(conn)
	if _, err := fmt.Fprintf(conn, "POST /api/webhooks/stripe HTTP/1.1\r\nHost: x\r\nStripe-Signature: %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", signature, len(body)); err != nil {
		t.Fatal(err)
	}
	if line, err := answer.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") { // it is being read, so it is under way
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := answer.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, body[:len(body)/2]); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until(t, "it to say that it stops", func() bool { return strings.Contains(p.log.String(), "requests and jobs under way may finish") })
	if _, err := io.WriteString(conn, body[len(body)/2:]); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(answer, nil)
	if err != nil {
		t.Fatalf("the request under way was cut off: %v\n%s", err, &p.log)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("the request under way is answered %s", res.Status)
	}
	// The job still stands. Whoever asks is told to go elsewhere, and soon nobody new is let in.
	until(t, "new connections to be refused", func() bool {
		res, err := http.Get(e.base() + "/readyz")
		if err != nil {
			return true
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("a process that stops says that it is ready: %s", res.Status)
		}
		return false
	})
	select {
	case <-p.ended:
		t.Fatalf("it ended before its job did:\n%s", &p.log)
	default:
	}
	if err := hold.Rollback(); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != 0 {
		t.Errorf("it exits %d:\n%s", code, &p.log)
	}
	var first struct {
		State   string
		Attempt int
	}
	dbtest.Get(t, e["DATABASE_URL"], &first, `SELECT state::text, attempt FROM river_job WHERE kind = 'stripe_events' ORDER BY id LIMIT 1`)
	if first.State != "completed" || first.Attempt != 1 {
		t.Errorf("the job under way is %s at attempt %d, want completed at the first", first.State, first.Attempt)
	}
	if n := prog.count(t, `SELECT count(*) FROM credits WHERE payment_intent = $1`, events[0].intent); n != 1 {
		t.Errorf("%d credits by the job under way", n)
	}
	// The sandbox tells of the customers it was asked for as well, when it comes to it.
	if n := prog.count(t, `SELECT count(*) FROM stripe_events WHERE type = 'payment_intent.succeeded'`); n != 2 {
		t.Errorf("%d events stored, want both", n)
	}
	clean(t, p.log.String())
	// Whoever comes next does what is left.
	p = e.spawn(t, "serve")
	p.ready(t, e.base())
	until(t, "both payments to be credited", func() bool { return prog.count(t, `SELECT count(*) FROM credits`) == 2 })
	if code := p.end(t, syscall.SIGTERM); code != 0 {
		t.Errorf("it exits %d:\n%s", code, &p.log)
	}
	e.verify(t)
}
