package sandbox

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"
)

// input is an API request that has been read and admitted.
type input struct {
	*params
	path string
	id   string
}

// operation answers an API request. It runs under the mutex; it must leave the state alone when it errs, except for
// a card error, which is an outcome of its own.
type operation func(tx *txn, in *input) (any, error)

func (s *Stripe) mountAPI(mux *http.ServeMux) {
	for pattern, op := range map[string]operation{
		"GET /v1/balance":                        getBalance,
		"POST /v1/customers":                     createCustomer,
		"GET /v1/customers":                      listCustomers,
		"GET /v1/customers/{id}":                 getCustomer,
		"POST /v1/checkout/sessions":             createSession,
		"GET /v1/checkout/sessions":              listSessions,
		"GET /v1/checkout/sessions/{id}":         getSession,
		"POST /v1/checkout/sessions/{id}/expire": expireSession,
		"POST /v1/payment_intents":               createIntent,
		"GET /v1/payment_intents":                listIntents,
		"GET /v1/payment_intents/{id}":           getIntent,
		"POST /v1/payment_intents/{id}/confirm":  confirmIntent,
		"POST /v1/payment_intents/{id}/cancel":   cancelIntent,
		"GET /v1/setup_intents":                  listSetups,
		"GET /v1/setup_intents/{id}":             getSetup,
		"GET /v1/payment_methods":                listMethods,
		"GET /v1/payment_methods/{id}":           getMethod,
		"POST /v1/payment_methods/{id}/attach":   attachMethod,
		"POST /v1/payment_methods/{id}/detach":   detachMethod,
		"GET /v1/customers/{id}/payment_methods": listCustomerMethods,
		"GET /v1/customers/{id}/tax_ids":         listTaxIDs,
		"GET /v1/invoices":                       listInvoices,
		"GET /v1/invoices/{id}":                  getInvoice,
		"GET /v1/charges":                        listCharges,
		"GET /v1/charges/{id}":                   getCharge,
		"POST /v1/refunds":                       createRefund,
		"GET /v1/refunds":                        listRefunds,
		"GET /v1/refunds/{id}":                   getRefund,
		"GET /v1/disputes":                       listDisputes,
		"GET /v1/disputes/{id}":                  getDispute,
		"GET /v1/events":                         listEvents,
		"GET /v1/events/{id}":                    getEvent,
		"POST /v1/webhook_endpoints":             createEndpoint,
		"GET /v1/webhook_endpoints":              listEndpoints,
		"GET /v1/webhook_endpoints/{id}":         getEndpoint,
		"POST /v1/webhook_endpoints/{id}":        updateEndpoint,
		"DELETE /v1/webhook_endpoints/{id}":      deleteEndpoint,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.serveAPI(w, r, op) })
	}
	mux.HandleFunc("/v1/", func(w http.ResponseWriter, r *http.Request) { s.serveAPI(w, r, unknownPath(r)) })
}

func unknownPath(r *http.Request) operation {
	return func(*txn, *input) (any, error) {
		e := invalid("", "", "Unrecognized request URL (%s: %s). The sandbox does not imitate it.", r.Method, r.URL.Path)
		e.Status = http.StatusNotFound
		return nil, e
	}
}

// answer is a complete response, as it is given and as it is kept under an idempotency key.
type answer struct {
	Status    int    `json:"status"`
	Body      []byte `json:"body"`
	RequestID string `json:"request_id"`
}

// idemRecord is what an idempotency key stands for; see https://docs.stripe.com/api/idempotent_requests.
type idemRecord struct {
	Hash    string `json:"hash"`
	Answer  answer `json:"answer"`
	Created int64  `json:"created"`
}

// idemKept is how long a key is remembered.
const idemKept = 24 * time.Hour

func (r *idemRecord) expired(now time.Time) bool {
	return now.Unix() >= r.Created+int64(idemKept/time.Second)
}

// IdempotencyStats counts POST requests that carried an idempotency key.
type IdempotencyStats struct {
	// Executed ran and was recorded (successes, card errors and 500s).
	Executed int64 `json:"executed"`
	// Replayed was answered from the record.
	Replayed int64 `json:"replayed"`
	// Mismatched used a key again with other parameters.
	Mismatched int64 `json:"mismatched"`
	// InFlight met the same key still being executed.
	InFlight int64 `json:"in_flight"`
}

func (s *Stripe) serveAPI(w http.ResponseWriter, r *http.Request, op operation) {
	reqID := newID("req_", 14)
	fail := func(err error) { s.send(w, s.errorAnswer(reqID, err), nil) }
	if err := authorised(r); err != nil {
		fail(err)
		return
	}
	if v := r.Header.Get("Stripe-Version"); v != "" && v != stripeVersion {
		fail(invalid("", "", "Invalid Stripe API version: %s (the sandbox speaks %s)", v, stripeVersion))
		return
	}
	in, err := readInput(r)
	if err != nil {
		fail(err)
		return
	}
	// Faults on the way strike before the key is looked at, those of execution only where there is one: a replay
	// uses none of them up.
	what := r.Method + " " + r.URL.Path
	fault := s.faults.strike(what, stripeFaults.edge)
	if fault.Do == FaultTimeout {
		silence(s.life, w, r, fault)
		return
	}
	if e := refusal(fault); e != nil {
		fail(e)
		return
	}
	key := ""
	if r.Method == http.MethodPost {
		key = r.Header.Get("Idempotency-Key")
	}
	header := http.Header{}
	if key != "" {
		header.Set("Idempotency-Key", key)
	}
	replay, err := s.claim(key, in.hash)
	if err != nil {
		s.send(w, s.errorAnswer(reqID, err), header)
		return
	}
	if replay != nil {
		header.Set("Idempotent-Replayed", "true")
		header.Set("Original-Request", replay.RequestID)
		a := *replay
		a.RequestID = reqID
		s.send(w, a, header)
		return
	}
	fault = s.faults.strike(what, stripeFaults.execution)
	if fault.Do == FaultDelay {
		// The caller may give up meanwhile; like Stripe, the sandbox acts all the same.
		sleep(s.life, fault.wait())
	}
	a := s.execute(reqID, key, in, op, fault)
	if fault.Do == FaultTimeoutAfterActing || fault.Do == FaultCutAfterActing {
		silence(s.life, w, r, fault)
		return
	}
	s.send(w, a, header)
}

// claim takes an idempotency key for execution, gives the answer it already has, or says why neither is possible.
func (s *Stripe) claim(key, hash string) (*answer, error) {
	if key == "" {
		return nil, nil // no key: neither an answer nor an obstacle
	}
	if len(key) > 255 {
		return nil, invalid("", "", "Idempotency keys can be at most 255 characters long.")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rec := s.idem[key]
	switch {
	case s.inFlight[key]:
		s.stats.InFlight++
		return nil, &apiError{
			Status: http.StatusConflict, Type: typeIdempotency, Code: "idempotency_key_in_use",
			Message: "There is currently another in-progress request using this Idempotent Key (that probably means " +
				"you submitted twice, and the other request is still going through): " + key + ". Please try again later.",
		}
	case rec != nil && rec.expired(s.now()):
		delete(s.idem, key)
	case rec != nil && rec.Hash != hash:
		s.stats.Mismatched++
		return nil, &apiError{
			Status: http.StatusBadRequest, Type: typeIdempotency,
			Message: "Keys for idempotent requests can only be used with the same parameters they were first used with. " +
				"Try using a key other than '" + key + "' if you meant to execute a different request.",
		}
	case rec != nil:
		s.stats.Replayed++
		return &rec.Answer, nil
	}
	s.inFlight[key] = true
	return nil, nil // the key is claimed: the caller executes
}

// execute runs the operation and records its answer under the key, in one change of the state.
func (s *Stripe) execute(reqID, key string, in *input, op operation, fault Fault) answer {
	s.mu.Lock()
	tx := s.begin()
	tx.request = eventRequest{ID: text(reqID), IdempotencyKey: text(key)}
	var a answer
	if fault.Do == Fault500 {
		a = s.errorAnswer(reqID, internalError("An unknown error occurred (scripted, before acting)."))
	} else {
		a = s.perform(tx, reqID, in, op, fault)
	}
	if key != "" {
		delete(s.inFlight, key)
		// What fails validation was never executed: its key stays free.
		if a.Status < 300 || a.Status == http.StatusPaymentRequired || a.Status >= 500 {
			rec := &idemRecord{Hash: in.hash, Answer: a, Created: tx.created()}
			s.idem[key] = rec
			s.stats.Executed++
			tx.put(bucketIdem, key, rec)
		}
		tx.put(bucketStats, onlyKey, s.stats)
	}
	done := tx.finish()
	s.mu.Unlock()
	if err := done(); err != nil {
		s.log.ErrorContext(s.life, "sandbox stripe: state not written", "error", err)
		return s.errorAnswer(reqID, internalError("The sandbox could not write its state."))
	}
	return a
}

func (s *Stripe) perform(tx *txn, reqID string, in *input, op operation, fault Fault) answer {
	if err := checkExpand(in); err != nil {
		return s.errorAnswer(reqID, err)
	}
	v, err := op(tx, in)
	if err != nil {
		return s.errorAnswer(reqID, err)
	}
	if sess, ok := v.(*row[session]); ok {
		if fault.Do == FaultBadURL {
			sess.Own.URL = fault.URL
			save(tx, &s.sessions, sess)
		}
		v = s.sessionView(sess)
	}
	if fault.Do == Fault500AfterActing {
		return s.errorAnswer(reqID, internalError("An unknown error occurred (scripted, after acting)."))
	}
	body, err := s.render(in, v)
	if err != nil {
		return s.errorAnswer(reqID, err)
	}
	return answer{Status: http.StatusOK, Body: body, RequestID: reqID}
}

func (s *Stripe) errorAnswer(reqID string, err error) answer {
	var e *apiError
	if !errors.As(err, &e) {
		s.log.ErrorContext(s.life, "sandbox stripe: request failed", "request", reqID, "error", err)
		e = internalError("The sandbox failed: " + err.Error())
	}
	body, err := json.MarshalIndent(map[string]any{"error": e}, "", "  ")
	if err != nil {
		body = []byte(`{"error":{"type":"api_error","message":"The sandbox could not encode its error."}}`)
	}
	return answer{Status: e.Status, Body: body, RequestID: reqID}
}

func (s *Stripe) send(w http.ResponseWriter, a answer, header http.Header) {
	h := w.Header()
	maps.Copy(h, header)
	h.Set("Content-Type", "application/json")
	h.Set("Request-Id", a.RequestID)
	h.Set("Stripe-Version", stripeVersion)
	h.Set("Cache-Control", "no-cache, no-store")
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body) // a failure means that the caller has gone
}

// authorised admits any secret or restricted key of test mode, as bearer token or as the user of HTTP Basic.
func authorised(r *http.Request) error {
	refuse := func(message string) error {
		return &apiError{Status: http.StatusUnauthorized, Type: typeInvalidRequest, Message: message}
	}
	key, _, basic := r.BasicAuth()
	if !basic {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if strings.EqualFold(scheme, "Bearer") {
			key = strings.TrimSpace(token)
		}
	}
	switch {
	case key == "":
		return refuse("You did not provide an API key. You need to provide your API key in the Authorization header, " +
			"using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').")
	case strings.HasPrefix(key, "sk_test_") && len(key) > len("sk_test_"),
		strings.HasPrefix(key, "rk_test_") && len(key) > len("rk_test_"):
		return nil
	default:
		return refuse("Invalid API Key provided: " + key[:min(8, len(key))] + "****. The sandbox takes keys of test mode (sk_test_…).")
	}
}

func readInput(r *http.Request) (*input, error) {
	raw := r.URL.RawQuery
	if r.Method == http.MethodPost {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, invalid("", "", "The request body could not be read.")
		}
		if ct := r.Header.Get("Content-Type"); len(body) > 0 && !strings.HasPrefix(ct, "application/x-www-form-urlencoded") {
			return nil, invalid("", "", "Invalid request: the body must be application/x-www-form-urlencoded, not %q.", ct)
		}
		raw = strings.Trim(raw+"&"+string(body), "&")
	}
	p, err := parseParams(r.Method+" "+r.URL.Path, raw)
	if err != nil {
		return nil, err
	}
	return &input{params: p, path: r.URL.Path, id: r.PathValue("id")}, nil
}
