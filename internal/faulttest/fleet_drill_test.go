//go:build drill

package faulttest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"

	"ringfence/internal/failpoint"
)

const (
	// fleetServers and fleetWorkers are what an installation of several machines begins with.
	fleetServers, fleetWorkers = 3, 2
	// fleetPayments is how many payments there are to tell of, each by two events.
	fleetPayments = 5000
	// callersOfAKind is how many ask for the same kind of thing at once, each once in a callerPause.
	callersOfAKind = 4
	callerPause    = 40 * time.Millisecond
	// stepAnswers is how many requests every server answers between two steps of a drill.
	stepAnswers = 300
)

// fleet is a shop with three servers behind a balancer, and two workers. The site is the balancer.
type fleet struct {
	*shop

	front   *balancer
	servers []*backend
	workers []*process
	program string // of processes to come; empty: the one that the ground was laid with
	key     string
	org     uuid.UUID
	reader  *buyer
}

// newFleet starts it. The first worker is River's leader.
func newFleet(t testing.TB) *fleet {
	t.Helper()
	f := &fleet{shop: &shop{world: newWorld(t)}}
	f.data = t.TempDir()
	f.alter(`DELETE FROM stripe_customers`)
	f.sandbox, f.site = f.process("sandbox", "sandbox"), f.process("balancer")
	f.stripe = f.sandbox.base()
	for _, p := range []*process{f.sandbox, f.site} {
		f.configure(p)
		p.env["RINGFENCE_ADDR"] = f.site.addr
	}
	f.sandbox.start()
	f.sandbox.ready()
	f.front = newBalancer(t, f.site.addr)
	var err error
	if f.topUps, err = f.site.env.prepare(within(t, longest), fleetPayments); err != nil {
		t.Fatal(err)
	}
	for range fleetServers {
		f.servers = append(f.servers, f.server())
	}
	f.workers = append(f.workers, f.another("worker", "work"))
	until(t, "the first worker to lead", func() bool { return f.leader() != "" })
	for len(f.workers) < fleetWorkers {
		f.workers = append(f.workers, f.another("worker", "work"))
	}
	x := &exchange{shop: f.shop}
	f.key = x.said("apikey", "create", "--org", harbour, "--name", "fleet")
	x.said("credit", "--org", harbour, "--amount-pence=1000000", "--reason", "For gates", "--reference", "fleet")
	f.one(&f.org, `SELECT id FROM organizations WHERE name = $1`, harbour)
	f.reader = f.buyer("owner@harbour.example")
	return f
}

// configure makes a process one of the fleet.
func (f *fleet) configure(p *process) {
	maps.Copy(p.env, environment{
		"RINGFENCE_SANDBOX_ADDR": f.sandbox.addr, "STRIPE_API_BASE": f.sandbox.base(), "RINGFENCE_BASE_URL": f.site.base(), "RINGFENCE_DRAIN_SECONDS": "2",
	})
}

// another starts one more process.
func (f *fleet) another(name string, args ...string) *process {
	f.t.Helper()
	p := f.process(name, args...)
	f.configure(p)
	p.program = f.program
	p.start()
	p.ready()
	return p
}

// server starts one more server, which the balancer knows of.
func (f *fleet) server() *backend {
	f.t.Helper()
	return f.front.add(f.t, f.another("web", "serve", "--no-jobs"))
}

// leader is River's name for the worker that leads; "" for none.
func (f *fleet) leader() (id string) {
	f.t.Helper()
	f.one(&id, `SELECT coalesce((SELECT leader_id FROM river_leader WHERE expires_at > now()), '')`)
	return id
}

// traffic is what goes on at a fleet: events of Stripe's, people who read, programs that ask the gate.
type traffic struct {
	f      *fleet
	sender *sender
	stop   chan struct{}
	group  sync.WaitGroup
	turns  atomic.Int64

	mu       sync.Mutex
	sent     []*event
	took     int // holds that were captured, each in whole
	freed    int
	refused  []string
	slowest  time.Duration
	answered int
}

// traffic begins it.
func (f *fleet) traffic() *traffic {
	f.t.Helper()
	l := &traffic{f: f, sender: newSender(), stop: make(chan struct{})}
	var events []*event
	for range fleetPayments - 10 { // some are left for what comes after
		p := f.pay()
		events = append(events, f.completed(p), f.succeeded(p))
	}
	queue := make(chan *event, len(events))
	for _, e := range events {
		queue <- e
	}
	close(queue)
	f.front.begin()
	for range callersOfAKind {
		l.repeat(func() { l.event(queue) })
		l.repeat(l.read)
		l.repeat(l.gate)
	}
	return l
}

// repeat has something done again and again until the end.
func (l *traffic) repeat(do func()) {
	l.group.Go(func() {
		tick := time.NewTicker(callerPause)
		defer tick.Stop()
		for {
			select {
			case <-l.stop:
				return
			case <-tick.C:
				do()
			}
		}
	})
}

// end lets everybody finish what they are about.
func (l *traffic) end() {
	close(l.stop)
	l.group.Wait()
}

// event sends the next event. The balancer repeats it where it must; Stripe need not.
func (l *traffic) event(queue <-chan *event) {
	e, more := <-queue
	if !more {
		return
	}
	l.mu.Lock()
	l.sent = append(l.sent, e)
	l.mu.Unlock()
	began := time.Now()
	a := l.sender.deliver(context.Background(), l.f.site.base(), e)
	l.note("an event", began, a.status, http.StatusOK, a.body)
}

// read looks at the wallet by the session that everybody shares.
func (l *traffic) read() {
	path := []string{"/wallet", "/wallet/transactions", "/dashboard"}[l.turns.Add(1)%3]
	l.page(l.f.site.base(), path)
}

// page looks at one page of one server.
func (l *traffic) page(base, path string) {
	began := time.Now()
	res, err := l.f.reader.http.Get(base + path)
	if err != nil {
		l.note(path, began, 0, http.StatusOK, err.Error())
		return
	}
	status := res.StatusCode
	body, err := said(res, nil)
	if status == http.StatusOK && (err != nil || !strings.Contains(string(body), harbour)) {
		status = 0
	}
	l.note(path, began, status, http.StatusOK, string(body))
}

// gate asks for a text's price: taken at once, taken afterwards, or given back, in turn.
func (l *traffic) gate() {
	turn := l.turns.Add(1) % 3
	var hold struct{ ID, State string }
	body := map[string]any{"action": "sms", "quantity": 1, "destination": "+447400123456"}
	if turn == 0 {
		body["capture"] = true
	}
	if !l.ask("/api/v1/holds", http.StatusCreated, body, &hold) {
		return
	}
	want := "captured"
	switch turn {
	case 1:
		l.ask("/api/v1/holds/"+hold.ID+"/capture", http.StatusOK, nil, &hold)
	case 2:
		l.ask("/api/v1/holds/"+hold.ID+"/void", http.StatusOK, nil, &hold)
		want = "void"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if turn == 2 {
		l.freed++
	} else {
		l.took++
	}
	if !strings.HasPrefix(hold.State, want) {
		l.refused = append(l.refused, fmt.Sprintf("a hold that was to be %s is %q", want, hold.State))
	}
}

// ask posts to the API and reports whether it was answered as it should be.
func (l *traffic) ask(path string, want int, body, into any) bool {
	raw, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	if body == nil {
		raw = nil
	}
	began := time.Now()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, l.f.site.base()+path, strings.NewReader(string(raw)))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Authorization", "Bearer "+l.f.key)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", uuid.NewString())
	res, err := l.sender.client.Do(req)
	if err != nil {
		l.note(path, began, 0, want, err.Error())
		return false
	}
	status := res.StatusCode
	answer, _ := said(res, nil) // the status is looked at
	if status == want && json.Unmarshal(answer, into) != nil {
		status = 0
	}
	l.note(path, began, status, want, string(answer))
	return status == want
}

func (l *traffic) note(what string, began time.Time, status, want int, answer string) {
	took := time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slowest = max(l.slowest, took)
	if status == want {
		l.answered++
	} else {
		l.refused = append(l.refused, fmt.Sprintf("%s: %d, want %d: %.300s", what, status, want, answer))
	}
}

// none fails the test for every failure.
func none(t testing.TB, whose string, failures []string) {
	t.Helper()
	for i, f := range failures {
		if i == 5 {
			t.Errorf("%s: … and %d more", whose, len(failures)-i)
			return
		}
		t.Errorf("%s: %s", whose, f)
	}
}

// watcher is a page that is open and hears of the balance.
type watcher struct {
	mu      sync.Mutex
	balance string
	ends    int
}

// balanceInEvent is the amount in the events that the page swaps in.
var balanceInEvent = regexp.MustCompile(`(£[0-9,]+\.[0-9]{2})`)

// watch opens the live balance and opens it again whenever it ends, as a browser does.
func (f *fleet) watch(base string) *watcher {
	w := &watcher{}
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan struct{})
	client := &http.Client{Jar: f.reader.http.Jar} // without a time limit
	go func() {
		defer close(gone)
		for ctx.Err() == nil {
			w.listen(ctx, client, base+"/wallet/stream")
			w.mu.Lock()
			w.ends++
			w.mu.Unlock()
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
	f.t.Cleanup(func() { cancel(); <-gone })
	return w
}

// listen hears one stream out.
func (w *watcher) listen(ctx context.Context, client *http.Client, address string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		panic(err)
	}
	res, err := client.Do(req)
	if err != nil {
		return
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	event, heard := "", false
	for lines.Scan() {
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			event, heard = name, false
		}
		if m := balanceInEvent.FindString(lines.Text()); m != "" && event == "balance" && !heard {
			heard = true
			w.mu.Lock()
			w.balance = m
			w.mu.Unlock()
		}
	}
}

func (w *watcher) shows(balance string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.ReplaceAll(w.balance, ",", "") == balance
}

// oneMore has a payment of the harbour's credited by whichever worker, and waits until every open page shows it.
func (f *fleet) oneMore(l *traffic, pages map[string]*watcher) {
	f.t.Helper()
	for f.topUps[0].Org != f.org {
		f.topUps = f.topUps[1:]
	}
	e := f.succeeded(f.pay())
	l.sender.all(within(f.t, longest), []*event{e}, 1, f.site.base())
	l.sent = append(l.sent, e)
	until(f.t, "the last payment to be credited", func() bool { return f.credited([]*event{e}) == 1 })
	pence := f.number(`SELECT balance_pence FROM wallets WHERE org_id = $1`, f.org)
	balance := fmt.Sprintf("£%d.%02d", pence/100, pence%100)
	for name, w := range pages {
		if pollFor(longest, func() bool { return w.shows(balance) }) != nil {
			f.t.Errorf("the page that is open at %s shows %q after %d streams, want %s", name, w.balance, w.ends+1, balance)
		}
	}
}

// whole fails the test unless everything that was asked for has been done: events, jobs, holds, books.
func (f *fleet) whole(l *traffic, patience time.Duration) {
	f.t.Helper()
	if n := f.number(`SELECT count(*) FROM holds WHERE state IN ('open', 'in_flight')`); n > 0 {
		f.t.Errorf("%d holds are not settled", n)
	}
	for state, want := range map[string]int{"captured": l.took, "void": l.freed} {
		if n := f.number(`SELECT count(*) FROM holds WHERE source = 'api' AND state::text LIKE $1 || '%'`, state); n != want {
			f.t.Errorf("%d holds are %s, want %d", n, state, want)
		}
	}
	var left []struct{ Kind, State string }
	// Of the rounds that come by the clock a lost one is made up by the next.
	f.query(&left, `SELECT kind, state::text FROM river_job WHERE max_attempts > 1 AND state IN ('discarded', 'cancelled')`)
	if len(left) > 0 {
		f.t.Errorf("jobs were given up: %v", left)
	}
	f.settledWithin(patience, l.sender, l.sent)
}

// unfinished is how many jobs wait, or are believed to be under way, that were there at the moment.
func (f *fleet) unfinished(before time.Time) int {
	f.t.Helper()
	return f.number(`SELECT count(*) FROM river_job WHERE state IN ('running', 'retryable', 'available') AND created_at < $1`, before)
}

// abandoned is how many of them are not rounds that the dead worker had under way: a round is made up by the next, and what is left
// of it is put away once its kind's own limit has passed, which for the longest is most of an hour.
func (f *fleet) abandoned(before time.Time, dead string) int {
	f.t.Helper()
	return f.number(`
		SELECT count(*) FROM river_job WHERE state IN ('running', 'retryable', 'available') AND created_at < $1
		AND NOT (max_attempts = 1 AND state = 'running' AND attempted_by[array_upper(attempted_by, 1)] = $2)`, before, dead)
}

// missed are the kinds of rounds that came every few seconds before the moment and not since. Verifications come twice with the start,
// one of each kind, and then not for a quarter of an hour.
func (f *fleet) missed(since time.Time) (kinds []string) {
	f.t.Helper()
	f.query(&kinds, `
		SELECT kind FROM river_job WHERE max_attempts = 1 AND state = 'completed'
		GROUP BY kind HAVING count(*) FILTER (WHERE finalized_at < $1) > 2 AND count(*) FILTER (WHERE attempted_at > $1) = 0`, since)
	return kinds
}

// TestFleetKilled: three servers and two workers under load, and one of each is killed, the worker in the midst of a
// job and as the one that leads. No request to a server that lives fails; what was sent to the dead one is answered by
// another, once; no job is lost.
func TestFleetKilled(t *testing.T) {
	f := newFleet(t)
	pages := map[string]*watcher{"the balancer": f.watch(f.site.base())}
	for _, s := range f.servers[1:] {
		pages[s.p.addr] = f.watch(s.p.base())
	}
	began := time.Now()
	l := f.traffic()
	nextStep(t, f.servers...)

	dead := f.servers[0]
	dead.doomed.Store(true)
	dead.p.kill()
	nextStep(t, f.servers[1:]...)

	leader := f.leader()
	f.workers[0].arm(failpoint.WorkBeforeCommit)
	f.workers[0].killed()
	struck := time.Now()
	legacy := f.number(`SELECT count(*) FROM river_job WHERE state = 'running' AND attempted_by[array_upper(attempted_by, 1)] = $1`, leader)
	if legacy == 0 {
		t.Error("the dead worker had no job under way")
	}
	nextStep(t, f.servers[1:]...)
	l.end()
	loaded := time.Since(began)

	for _, s := range f.servers[1:] { // the session was made by whichever server
		l.page(s.p.base(), "/wallet")
	}
	if err := pollFor(2*time.Minute, f.worked); err != nil {
		t.Errorf("waiting for the events: %v", err)
	}
	events := time.Since(struck)
	f.oneMore(l, pages)
	if err := pollFor(4*time.Minute, func() bool { return f.abandoned(struck, leader) == 0 }); err != nil {
		t.Errorf("waiting for the jobs: %v", err)
	}
	jobs := time.Since(struck)
	if err := pollFor(longest, func() bool { return len(f.missed(struck)) == 0 }); err != nil {
		t.Errorf("waiting for rounds of %v: %v", f.missed(struck), err)
	}
	if now := f.leader(); now == leader || now == "" {
		t.Errorf("the leader is %q, and was %q", now, leader)
	}
	none(t, "at a server that lives", f.front.failed())
	none(t, "as seen from outside", l.refused)
	f.whole(l, longest)
	f.print("Three servers and two workers, one of each killed", l, loaded, [][2]any{
		{"requests that the dead server did not answer, answered by another", dead.cut.Load()},
		{"jobs that the dead worker left", legacy},
		{"from its death until every event was worked", seconds(events)},
		{"from its death until no job was left", seconds(jobs)},
	})
}

// TestFleetRolled: the same fleet is replaced by another build, process by process: the new one is started beside the old
// one, which is then told to stop. Not one request fails, not even one that would be sent again.
func TestFleetRolled(t *testing.T) {
	f := newFleet(t)
	f.program = filepath.Join(ground.dir, "ringfence-next")
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", "failpoints", "-buildvcs=false", "-ldflags=-X main.version=next", "-o", f.program, "ringfence/cmd/ringfence")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("couldn't build the next version: %v\n%s", err, out)
	}
	pages := map[string]*watcher{"the balancer": f.watch(f.site.base())}
	began := time.Now()
	l := f.traffic()
	nextStep(t, f.servers...)
	var slowest time.Duration
	replaced := func(old *process) {
		t.Helper()
		told := time.Now()
		if err := old.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		select {
		case <-old.ended:
		case <-time.After(longest):
			t.Fatalf("the old %s does not end:\n%s", old.name, old.lastWords())
		}
		slowest = max(slowest, time.Since(told))
		if code := old.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("the old %s exits %d:\n%s", old.name, code, old.lastWords())
		}
	}
	for i, old := range f.servers {
		f.servers[i] = f.server()
		nextStep(t, f.servers[i])
		replaced(old.p)
	}
	for i, old := range f.workers {
		f.workers[i] = f.another("worker", "work")
		replaced(old)
		nextStep(t, f.servers...)
	}
	rolled := time.Now()
	nextStep(t, f.servers...)
	l.end()
	loaded := time.Since(began)
	stopped := time.Now()
	waiting := f.number(`SELECT count(*) FROM stripe_events WHERE state = 'received'`)
	var kinds []string
	f.query(&kinds, `SELECT DISTINCT kind || ' ' || state FROM river_job WHERE state IN ('running', 'retryable', 'available') AND created_at < now()`)
	if err := pollFor(longest, f.worked); err != nil {
		t.Errorf("waiting for the events: %v", err)
	}
	worked := time.Since(stopped)
	if err := pollFor(longest, func() bool { return f.unfinished(rolled) == 0 }); err != nil {
		t.Errorf("waiting for the jobs: %v", err)
	}
	done := time.Since(stopped)
	f.oneMore(l, pages)
	for _, p := range append([]*process{f.servers[0].p, f.servers[1].p, f.servers[2].p}, f.workers...) {
		log, err := os.ReadFile(filepath.Join(p.dir, "log"))
		if err != nil || !strings.Contains(string(log), `"version":"next"`) {
			t.Errorf("a %s is no new one (%v)", p.name, err)
		}
	}
	for _, s := range f.servers {
		l.page(s.p.base(), "/wallet")
	}
	if f.front.again > 0 {
		t.Errorf("%d requests had to be sent again", f.front.again)
	}
	if n := f.number(`SELECT count(*) FROM river_job WHERE attempt > 1`); n > 0 {
		t.Errorf("%d jobs had to be done again", n)
	}
	none(t, "at a server", f.front.failed())
	none(t, "as seen from outside", l.refused)
	f.whole(l, longest)
	f.print("Three servers and two workers, each replaced by a new build", l, loaded, [][2]any{
		{"requests that had to be sent again", f.front.again},
		{"longest from SIGTERM to the end", seconds(slowest)},
		{"events and jobs that waited at the last request", fmt.Sprint(waiting, " and ", kinds)},
		{"from the last request until every event was worked", seconds(worked)},
		{"from the last request until no job was left", seconds(done)},
	})
}

// print says what was measured.
func (f *fleet) print(title string, l *traffic, loaded time.Duration, more [][2]any) {
	table := new(strings.Builder)
	row := tabwriter.NewWriter(table, 0, 0, 2, ' ', 0)
	for _, c := range append([][2]any{
		{"load", seconds(loaded)},
		{"requests that were to be answered", l.answered + len(l.refused)},
		{"of them failed", len(l.refused)},
		{"failures at servers that live", len(f.front.failed())},
		{"slowest answer", l.slowest.Round(time.Millisecond)},
		{"events", len(l.sent)},
		{"payments credited", f.number(`SELECT count(*) FROM credits`)},
		{"holds captured, given back", fmt.Sprintf("%d, %d", l.took, l.freed)},
	}, more...) {
		fmt.Fprintf(row, "%s\t%v\n", c[0], c[1])
	}
	row.Flush()
	fmt.Fprintf(os.Stdout, "\n%s:\n\n%s\nThe servers were sent: %s\n", title, table, f.front.kinds())
}
