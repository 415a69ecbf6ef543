package handlers

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"ringfence/internal/auth"
	"ringfence/internal/fault"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
)

// maxJSON bounds the body of an API request, maxAgentJSON that of one with an agent's prompt in it.
const (
	maxJSON      = 64 << 10
	maxAgentJSON = 256 << 10
)

// readJSON reads a request's body into v, a struct: one JSON object, nothing that v does not know. What cannot be read is a
// fault of kind Malformed, a body over 64 KiB TooLarge.
func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	return readJSONWithin(w, r, v, maxJSON)
}

// readJSONWithin is readJSON for a body of at most so many bytes.
func readJSONWithin(w http.ResponseWriter, r *http.Request, v any, most int64) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, most))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = errors.New("more than one value")
		}
	}
	if _, big := errors.AsType[*http.MaxBytesError](err); big {
		return fault.Wrap(fault.TooLarge, "The body is over "+strconv.FormatInt(most>>10, 10)+" KiB.", err)
	}
	f := fault.Wrap(fault.Malformed, "The body must be one JSON object with the fields of the reference, and nothing else.", err)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		f.Field = wrong.Field
	}
	return f
}

// idempotencyKey reads the header that makes a repeat of a request the same request. Every POST of the API must have one:
// without it a program that has lost an answer could only choose between paying twice and not knowing.
func idempotencyKey(r *http.Request) (string, error) {
	values := r.Header["Idempotency-Key"]
	if len(values) != 1 || values[0] == "" {
		return "", &fault.Error{
			Kind: fault.Malformed, Code: "idempotency_key_missing", Field: "Idempotency-Key",
			Public: "Send one Idempotency-Key header with a value of your own for every new request, such as a UUID, and the same one when you repeat it.",
		}
	}
	key := values[0]
	if len(key) > 255 {
		return "", &fault.Error{Kind: fault.Malformed, Field: "Idempotency-Key", Public: "An Idempotency-Key has at most 255 characters."}
	}
	for i := range len(key) {
		if key[i] < 0x21 || key[i] > 0x7e {
			return "", &fault.Error{Kind: fault.Malformed, Field: "Idempotency-Key", Public: "An Idempotency-Key is made of visible ASCII characters."}
		}
	}
	return key, nil
}

// replayed tells that the answer is to an earlier request with the same key.
func replayed(w http.ResponseWriter, was bool) {
	if was {
		w.Header().Set("Idempotent-Replayed", "true")
	}
}

// apiWallet is GET /api/v1/wallet: how the wallet stands, in pence. It needs the scope wallet:read.
func (a *app) apiWallet(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.WalletRead); err != nil {
		return err
	}
	found, err := a.Wallets.Balances(r.Context(), []uuid.UUID{v.who.OrgID})
	if err != nil {
		return err
	}
	b, ok := found[v.who.OrgID]
	if !ok { // its organisation was made a moment ago
		return fault.New(fault.NotFound, "This organisation has no wallet yet. Try again in a minute.")
	}
	return writeJSON(w, http.StatusOK, struct {
		Balance   int64  `json:"balance_pence"`
		Held      int64  `json:"held_pence"`
		Debt      int64  `json:"debt_pence"`
		Available int64  `json:"available_pence"`
		Currency  string `json:"currency"`
	}{int64(b.Balance), int64(b.SetAside()), int64(b.Debt), int64(b.Available()), "gbp"})
}

// apiHold is a hold as programs see it. expires_at is null once time no longer ends it.
type apiHold struct {
	ID          uuid.UUID        `json:"id"`
	Action      wallet.Action    `json:"action"`
	Quantity    int64            `json:"quantity"`
	Destination string           `json:"destination,omitempty"`
	Amount      int64            `json:"amount_pence"`
	State       wallet.HoldState `json:"state"`
	ExpiresAt   *time.Time       `json:"expires_at"`
	CreatedAt   time.Time        `json:"created_at"`
}

func holdForAPI(h wallet.Hold) apiHold {
	out := apiHold{
		ID: h.ID, Action: h.Action, Quantity: h.Quantity, Destination: h.Destination, Amount: int64(h.Amount), State: h.State, CreatedAt: h.CreatedAt.UTC(),
	}
	if h.State == wallet.HoldOpen {
		at := h.ExpiresAt.UTC()
		out.ExpiresAt = &at
	}
	return out
}

// createHold is POST /api/v1/holds: may this happen? 201 with the hold, 402 with what is missing. It needs the scope
// holds:write. The same key and body again get the same answer, whatever has become of the hold since.
func (a *app) createHold(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.HoldsWrite); err != nil {
		return err
	}
	key, err := idempotencyKey(r)
	if err != nil {
		return err
	}
	var body struct {
		Action      wallet.Action `json:"action"`
		Quantity    int64         `json:"quantity"`
		Destination string        `json:"destination"`
		Capture     bool          `json:"capture"`
	}
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	h, err := a.Gates.Authorise(r.Context(), wallet.HoldRequest{
		OrgID: v.who.OrgID, Action: body.Action, Quantity: body.Quantity, Destination: body.Destination, Source: wallet.SourceAPI,
		Key: key, AtOnce: body.Capture, Actor: v.who.Actor(), RequestID: v.requestID,
	})
	if err != nil {
		return err
	}
	replayed(w, h.Repeated)
	return writeJSON(w, http.StatusCreated, holdForAPI(h.AsMade()))
}

// captureHold is POST /api/v1/holds/{id}/capture: take what it really cost; without an amount, all that is held. It needs
// the scope holds:write.
func (a *app) captureHold(w http.ResponseWriter, r *http.Request, v *visit) error {
	var body struct {
		Amount *int64 `json:"amount_pence"`
	}
	s, err := a.settlement(w, r, v, &body)
	if err != nil {
		return err
	}
	if body.Amount == nil {
		s.Whole = true
	} else {
		s.Amount = money.Pence(*body.Amount)
	}
	h, err := a.Gates.Capture(r.Context(), s)
	if err != nil {
		return err
	}
	replayed(w, h.Repeated)
	return writeJSON(w, http.StatusOK, holdForAPI(h))
}

// voidHold is POST /api/v1/holds/{id}/void: nothing happened, free the money. It needs the scope holds:write.
func (a *app) voidHold(w http.ResponseWriter, r *http.Request, v *visit) error {
	s, err := a.settlement(w, r, v, &struct{}{})
	if err != nil {
		return err
	}
	h, err := a.Gates.Void(r.Context(), s)
	if err != nil {
		return err
	}
	replayed(w, h.Repeated)
	return writeJSON(w, http.StatusOK, holdForAPI(h))
}

// settlement reads a request that ends the hold in its path. An empty body is an empty object.
func (a *app) settlement(w http.ResponseWriter, r *http.Request, v *visit, body any) (wallet.Settlement, error) {
	if err := may(v.who, auth.HoldsWrite); err != nil {
		return wallet.Settlement{}, err
	}
	if _, err := idempotencyKey(r); err != nil {
		return wallet.Settlement{}, err
	}
	raw := r.PathValue("id")
	id, err := uuid.Parse(raw)
	if err != nil || id.String() != raw {
		return wallet.Settlement{}, fault.New(fault.NotFound, "There is no such hold.")
	}
	if r.ContentLength != 0 {
		if err := readJSON(w, r, body); err != nil {
			return wallet.Settlement{}, err
		}
	}
	return wallet.Settlement{OrgID: v.who.OrgID, Hold: id, Source: wallet.SourceAPI, Actor: v.who.Actor(), RequestID: v.requestID}, nil
}
