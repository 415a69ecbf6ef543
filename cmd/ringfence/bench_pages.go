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
	Rows    []int64  `default:"1000,1000000" help:"Lengths of the histories that are asked for, by turns: an organisation of each is made where it is missing."`
	Pages   []string `default:"/wallet/transactions,/dashboard" help:"What is asked for."`
	Callers int      `default:"4" help:"How many ask at once, each on a connection of its own that is kept."`
	Seconds int      `default:"10" help:"How long they ask for each page; a second before that is not counted."`
	Server  string   `help:"Address of the server; the running one by default." placeholder:"URL"`
}

// pagesReport is what the measurement prints. Durations are in milliseconds.
type pagesReport struct {
	Callers int           `json:"callers"`
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
}

type pageByLength struct {
	Rows     int64       `json:"rows"`
	Requests int         `json:"requests"`
	Bytes    int         `json:"bytes"`
	Answer   percentiles `json:"answer_ms"`
}

// historyDays is how far back the histories reach.
const historyDays = 120

// Run measures how long the running server takes for pages of wallets with long histories.
func (c pagesCmd) Run(e *env) error {
	if len(c.Rows) == 0 || slices.Min(c.Rows) < 1 || slices.Max(c.Rows) > 10_000_000 || len(c.Pages) == 0 || c.Callers < 1 || c.Callers > 1000 || c.Seconds < 1 || c.Seconds > 600 {
		return errors.New("bench pages takes 1 to 10000000 rows, 1 to 1000 callers and 1 to 600 seconds")
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
		return out.Encode(r)
	})
}

func (c pagesCmd) measure(ctx context.Context, a *app) (pagesReport, error) {
	r := pagesReport{Callers: c.Callers, Seconds: c.Seconds, Left: fmt.Sprintf("the organisations named %q with their histories", benchHistory(c.Rows[0])+" …")}
	cookies := make([][]*http.Cookie, len(c.Rows))
	for i, rows := range c.Rows {
		email, password, err := a.benchHistory(ctx, rows)
		if err != nil {
			return r, err
		}
		if cookies[i], err = signInTo(ctx, c.Server, email, password); err != nil {
			return r, err
		}
	}
	if _, err := a.ledger.AddUp(ctx); err != nil { // as the running workers do
		return r, err
	}
	for _, page := range c.Pages {
		figures, err := c.ask(ctx, page, cookies)
		if err != nil {
			return r, err
		}
		r.Pages = append(r.Pages, figures)
	}
	return r, nil
}

func benchHistory(rows int64) string { return fmt.Sprintf("Bench history %d", rows) }

// benchHistory makes sure of an organisation with a history of that length and gives somebody who may look at it.
func (a *app) benchHistory(ctx context.Context, rows int64) (email, password string, err error) {
	email = fmt.Sprintf("bench-history-%d@ringfence.example", rows)
	// The same in every run, and known to nobody who does not have the key of the cookies.
	mac := hmac.New(sha256.New, []byte(a.cfg.SessionKeys[0].Reveal()))
	mac.Write([]byte(email))
	password = hex.EncodeToString(mac.Sum(nil))
	var org uuid.UUID
	err = a.db.InSystemTx(ctx, "an organisation for measurements", func(ctx context.Context, tx *db.Tx) (err error) {
		if org, err = auth.OrganizationByName(ctx, tx, benchHistory(rows)); err == nil && org == uuid.Nil {
			org, err = a.auth.CreateOrganization(ctx, tx, benchHistory(rows))
		}
		if err != nil {
			return err
		}
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
		return "", "", err
	}
	if err := a.db.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error { return wallet.Open(ctx, tx, org) }); err != nil {
		return "", "", err
	}
	return email, password, a.gates.Fill(ctx, org, rows, now().AddDate(0, 0, -historyDays))
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

// ask has the callers ask for one page, taking turns between the histories, so that whatever else the machine does meets
// all lengths alike.
func (c pagesCmd) ask(ctx context.Context, page string, cookies [][]*http.Cookie) (f pageFigures, err error) {
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: c.Callers, MaxConnsPerHost: c.Callers, DisableCompression: true}}
	defer client.CloseIdleConnections()
	f = pageFigures{Page: page, ByRows: make([]pageByLength, len(c.Rows))}
	times := make([][][]time.Duration, c.Callers) // by caller and length
	var counting, ending atomic.Bool
	var turn atomic.Int64
	errs := make([]error, c.Callers)
	sizes := make([]atomic.Int64, len(c.Rows))
	var wg sync.WaitGroup
	for i := range c.Callers {
		times[i] = make([][]time.Duration, len(c.Rows))
		wg.Go(func() {
			for !ending.Load() {
				n := int(turn.Add(1)) % len(c.Rows)
				counted := counting.Load()
				took, size, err := getPage(ctx, client, c.Server+page, cookies[n])
				if err != nil {
					errs[i] = err
					return
				}
				sizes[n].Store(size)
				if counted {
					times[i][n] = append(times[i][n], took)
				}
			}
		})
	}
	time.Sleep(warmUp)
	counting.Store(true)
	time.Sleep(time.Duration(c.Seconds) * time.Second)
	counting.Store(false)
	ending.Store(true)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return f, err
	}
	requests := 0
	for n, rows := range c.Rows {
		var all []time.Duration
		for i := range c.Callers {
			all = append(all, times[i][n]...)
		}
		requests += len(all)
		f.ByRows[n] = pageByLength{Rows: rows, Requests: len(all), Bytes: int(sizes[n].Load()), Answer: percentilesOf(all)}
		if shortest := f.ByRows[0].Answer.P99; shortest > 0 {
			f.P99Ratio = max(f.P99Ratio, f.ByRows[n].Answer.P99/shortest)
		}
	}
	f.RequestsPerSecond = figure(float64(requests) / float64(c.Seconds))
	return f, nil
}

// getPage asks for one page and takes the time of the whole answer.
func getPage(ctx context.Context, client *http.Client, address string, cookies []*http.Cookie) (took time.Duration, size int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return 0, 0, err
	}
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
	if res.StatusCode != http.StatusOK {
		return 0, 0, fmt.Errorf("the server answered %s", res.Status)
	}
	return took, size, nil
}
