package main

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/auth"
	"ringfence/internal/wallet"
)

type pagesCmd struct {
	Rows    []int64       `default:"1000,1000000" help:"Lengths of the histories that are asked for, by turns: an organisation of each is made where it is missing."`
	Pages   []string      `default:"/dashboard,/wallet,/wallet/transactions" help:"What is asked for."`
	Users   int           `default:"50" help:"How many people of each organisation ask at once, each signed in with a session of their own, on a connection that is kept."`
	Pause   time.Duration `default:"500ms" help:"How long each of them looks at a page before asking again; 0s asks as fast as the answers come."`
	Seconds int           `default:"10" help:"How long they ask for each page; a second before that is not counted."`
	Paints  int           `default:"10" help:"How often a headless Chromium opens each page of the longest history, for its first contentful paint; 0 needs none."`
	Server  string        `help:"Address of the server; the running one by default." placeholder:"URL"`
}

// pagesReport is what the measurement prints. Durations are in milliseconds.
type pagesReport struct {
	Users   int           `json:"users"`
	Pause   figure        `json:"pause_ms"`
	Seconds int           `json:"seconds_for_each_page"`
	Pages   []pageFigures `json:"pages"`
	Left    string        `json:"left_behind"`
}

// pageFigures are one page's.
type pageFigures struct {
	Page              string         `json:"page"`
	RequestsPerSecond figure         `json:"requests_per_second"`
	ByRows            []pageByLength `json:"by_rows"`
	// P99Ratio is the slowest p99 of the lengths to the p99 of the shortest history.
	P99Ratio figure `json:"p99_to_that_of_the_shortest"`
	// The processor time that one request costs, whatever else the machine does; zero where it cannot be found out.
	ServerCPU   figure       `json:"server_cpu_ms_per_request"`
	PostgresCPU figure       `json:"postgres_cpu_ms_per_request"`
	Paint       *pagePainted `json:"first_contentful_paint_ms,omitempty"`
}

type pageByLength struct {
	Rows     int64       `json:"rows"`
	Requests int         `json:"requests"`
	Errors   int         `json:"errors"`
	Bytes    int         `json:"bytes_compressed"`
	Answer   percentiles `json:"answer_ms"`
}

// historyDays is how far back the histories reach.
const historyDays = 120

// mostPause bounds the pause: with a longer one little would be measured.
const mostPause = time.Minute

// Run measures how long the running server takes for pages of wallets with long histories, for many people at once. Answers
// that are no pages are counted, and are its failure.
func (c pagesCmd) Run(e *env) error {
	if len(c.Rows) == 0 || slices.Min(c.Rows) < 1 || slices.Max(c.Rows) > 10_000_000 || len(c.Pages) == 0 || c.Users < 1 || c.Users > 1000 ||
		c.Seconds < 1 || c.Seconds > 600 || c.Pause < 0 || c.Pause > mostPause || c.Paints < 0 || c.Paints > 1000 {
		return errors.New("bench pages takes 1 to 10000000 rows, 1 to 1000 users, 1 to 600 seconds, a pause of at most a minute and at most 1000 paints")
	}
	slices.Sort(c.Rows)
	c.Rows = slices.Compact(c.Rows)
	return withApp(e, func(ctx context.Context, a *app) error {
		if err := a.developmentOnly("bench pages"); err != nil {
			return err
		}
		c.Server = cmp.Or(c.Server, a.cfg.BaseURL)
		r, err := c.measure(ctx, a)
		if err != nil {
			return err
		}
		out := json.NewEncoder(e.stdout)
		out.SetIndent("", "  ")
		return errors.Join(out.Encode(r), r.failed())
	})
}

// failed is the error of a measurement in which not every answer was a page.
func (r pagesReport) failed() error {
	n := 0
	for _, p := range r.Pages {
		for _, l := range p.ByRows {
			n += l.Errors
		}
	}
	if n > 0 {
		return fmt.Errorf("%d requests were not answered with a page", n)
	}
	return nil
}

func (c pagesCmd) measure(ctx context.Context, a *app) (pagesReport, error) {
	r := pagesReport{
		Users: c.Users, Pause: milliseconds(c.Pause), Seconds: c.Seconds,
		Left: fmt.Sprintf("the organisations named %q with their histories and people", benchHistory(c.Rows[0])+" …"),
	}
	people := make([][][]*http.Cookie, len(c.Rows)) // by length and user
	for i, rows := range c.Rows {
		org, err := a.benchHistory(ctx, rows)
		if err != nil {
			return r, err
		}
		if err := a.benchPhones(ctx, org); err != nil {
			return r, fmt.Errorf("couldn't give %q numbers, agents, calls and texts: %w", benchHistory(rows), err)
		}
		if people[i], err = c.signIn(ctx, a, org, rows); err != nil {
			return r, err
		}
	}
	if _, err := a.ledger.AddUp(ctx); err != nil { // as the running workers do
		return r, err
	}
	use, err := a.newServerUse(ctx, c.Server)
	if err != nil {
		return r, err
	}
	for _, page := range c.Pages {
		figures, err := c.ask(ctx, page, people, use)
		if err != nil {
			return r, err
		}
		r.Pages = append(r.Pages, figures)
	}
	if c.Paints == 0 {
		return r, nil
	}
	painted, err := c.paint(ctx, people[len(people)-1][0])
	for i := range painted {
		r.Pages[i].Paint = &painted[i]
	}
	return r, err
}

func benchHistory(rows int64) string { return fmt.Sprintf("Bench history %d", rows) }

// benchHistory makes sure of an organisation with a history of that length.
func (a *app) benchHistory(ctx context.Context, rows int64) (org uuid.UUID, err error) {
	err = a.db.InSystemTx(ctx, "an organisation for measurements", func(ctx context.Context, tx *db.Tx) (err error) {
		if org, err = auth.OrganizationByName(ctx, tx, benchHistory(rows)); err == nil && org == uuid.Nil {
			org, err = a.auth.CreateOrganization(ctx, tx, benchHistory(rows))
		}
		return err
	})
	if err != nil {
		return org, err
	}
	if err := a.db.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error { return wallet.Open(ctx, tx, org) }); err != nil {
		return org, err
	}
	return org, a.gates.Fill(ctx, org, rows, now().AddDate(0, 0, -historyDays))
}

// signIn makes sure of the organisation's people, who may look, and gives the cookies of each, signed in as by a browser.
func (c pagesCmd) signIn(ctx context.Context, a *app, org uuid.UUID, rows int64) ([][]*http.Cookie, error) {
	people := make([][]*http.Cookie, c.Users)
	for i := range people {
		email := fmt.Sprintf("bench-history-%d-%d@ringfence.example", rows, i+1)
		// The same in every run, and known to nobody who does not have the key of the cookies.
		mac := hmac.New(sha256.New, []byte(a.cfg.SessionKeys[0].Reveal()))
		mac.Write([]byte(email))
		password := hex.EncodeToString(mac.Sum(nil))
		err := a.db.InSystemTx(ctx, "somebody for measurements", func(ctx context.Context, tx *db.Tx) error {
			user, err := auth.UserByEmail(ctx, tx, email)
			if err != nil || user != uuid.Nil {
				return err
			}
			made, err := a.auth.CreateUser(ctx, tx, email, password, auth.PlatformNone)
			if err != nil {
				return err
			}
			return a.auth.AddMember(ctx, tx, org, made.ID, auth.RoleViewer)
		})
		if err != nil {
			return nil, err
		}
		if people[i], err = signInTo(ctx, c.Server, email, password); err != nil {
			return nil, err
		}
	}
	return people, nil
}

var tokenField = regexp.MustCompile(`name="csrf_token" value="([^"]+)"`)

// signInTo signs in as a browser does and gives the cookies of it.
func signInTo(ctx context.Context, server, email, password string) ([]*http.Cookie, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Jar: jar, Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	login := server + "/login"
	send := func(method string, form url.Values) (status int, body []byte, err error) {
		req, err := http.NewRequestWithContext(ctx, method, login, strings.NewReader(form.Encode()))
		if err != nil {
			return 0, nil, err
		}
		if method == http.MethodPost {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		res, err := client.Do(req)
		if err != nil {
			return 0, nil, fmt.Errorf("couldn't reach the server: start it first: %w", err)
		}
		body, err = io.ReadAll(res.Body)
		return res.StatusCode, body, errors.Join(err, res.Body.Close())
	}
	_, page, err := send(http.MethodGet, nil)
	if err != nil {
		return nil, err
	}
	token := tokenField.FindSubmatch(page)
	if token == nil {
		return nil, errors.New("the server's sign-in page has no form")
	}
	status, _, err := send(http.MethodPost, url.Values{"email": {email}, "password": {password}, "csrf_token": {string(token[1])}})
	if err != nil {
		return nil, err
	}
	if status != http.StatusSeeOther {
		return nil, fmt.Errorf("signing in as %s was answered with %d: was it made with other session keys?", email, status)
	}
	at, err := url.Parse(server)
	if err != nil {
		return nil, err
	}
	return jar.Cookies(at), nil
}

// asked is what one of the people got of one length.
type asked struct {
	times  []time.Duration
	errors int
	bytes  int64
}

// ask has the people ask for one page, taking turns between the histories, so that whatever else the machine does meets
// all lengths alike.
func (c pagesCmd) ask(ctx context.Context, page string, people [][][]*http.Cookie, use *serverUse) (f pageFigures, err error) {
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: c.Users, MaxConnsPerHost: c.Users, DisableCompression: true}}
	defer client.CloseIdleConnections()
	got := make([][]asked, c.Users) // by user and length
	var counting atomic.Bool
	var turn, requests atomic.Int64
	ending := make(chan struct{})
	var wg sync.WaitGroup
	for i := range c.Users {
		got[i] = make([]asked, len(c.Rows))
		wg.Go(func() {
			pause := time.NewTimer(time.Duration(float64(c.Pause) * rand.Float64())) //nolint:gosec // they do not come all at once
			defer pause.Stop()
			for {
				select {
				case <-ending:
					return
				case <-pause.C:
				}
				n := int(turn.Add(1)) % len(c.Rows)
				counted := counting.Load()
				took, size, err := getPage(ctx, client, c.Server+page, people[n][i])
				requests.Add(1)
				switch one := &got[i][n]; {
				case !counted:
				case err != nil:
					one.errors++
				default:
					one.times, one.bytes = append(one.times, took), size
				}
				pause.Reset(c.Pause)
			}
		})
	}
	time.Sleep(warmUp)
	counting.Store(true)
	before, berr := use.read(ctx)
	answered := requests.Load()
	time.Sleep(time.Duration(c.Seconds) * time.Second)
	counting.Store(false)
	answered = requests.Load() - answered
	after, aerr := use.read(ctx)
	close(ending)
	wg.Wait()
	if err := errors.Join(berr, aerr); err != nil {
		return f, err
	}
	f = c.figures(page, got)
	if answered > 0 {
		f.ServerCPU = milliseconds(after.server-before.server) / figure(answered)
		f.PostgresCPU = milliseconds(after.postgres-before.postgres) / figure(answered)
	}
	return f, nil
}

// figures are what the answers come to.
func (c pagesCmd) figures(page string, got [][]asked) pageFigures {
	f := pageFigures{Page: page, ByRows: make([]pageByLength, len(c.Rows))}
	requests := 0
	for n, rows := range c.Rows {
		one := pageByLength{Rows: rows}
		var all []time.Duration
		for _, by := range got {
			all = append(all, by[n].times...)
			one.Errors += by[n].errors
			one.Bytes = max(one.Bytes, int(by[n].bytes))
		}
		one.Requests, one.Answer = len(all)+one.Errors, percentilesOf(all)
		requests += one.Requests
		f.ByRows[n] = one
		if shortest := f.ByRows[0].Answer.P99; shortest > 0 {
			f.P99Ratio = max(f.P99Ratio, one.Answer.P99/shortest)
		}
	}
	f.RequestsPerSecond = figure(float64(requests) / float64(c.Seconds))
	return f
}

// getPage asks for one page as a browser does and takes the time of the whole answer, which is size bytes long. What is not
// a page of somebody signed in is an error.
func getPage(ctx context.Context, client *http.Client, address string, cookies []*http.Cookie) (took time.Duration, size int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return 0, 0, err
	}
	req.Header.Set("Accept-Encoding", "gzip")
	for _, cookie := range cookies {
		req.AddCookie(cookie)
	}
	began := now()
	res, err := client.Do(req)
	if err != nil {
		return 0, 0, fmt.Errorf("no answer: %w", err)
	}
	size, err = io.Copy(io.Discard, res.Body)
	took = now().Sub(began)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return 0, 0, fmt.Errorf("no whole answer: %w", err)
	}
	if res.StatusCode != http.StatusOK || res.Request.URL.Path != req.URL.Path { // led to the sign-in page
		return 0, 0, fmt.Errorf("the server answered %s at %s", res.Status, res.Request.URL.Path)
	}
	return took, size, nil
}
