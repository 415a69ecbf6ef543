package auth_test

import (
	"strings"
	"testing"

	"ringfence/db/dbtest"
	"ringfence/internal/auth"
	"ringfence/internal/fault"
)

// TestOperators: an operator is made with a reason, of a new account or of one that is meant, and is none any more at once; each
// change is in the audit log, a repeat is none.
func TestOperators(t *testing.T) {
	h := newHouse(t, auth.Options{})
	add := func(email, reason string, existing bool) (string, error) {
		return h.AddOperator(t.Context(), auth.NewOperator{Email: email, Existing: existing, Actor: "cli:ann", Reason: reason})
	}
	_, err := add("ops@ringfence.example", " ", false)
	wantField(t, err, "reason")
	_, err = add("nobody", "r", false)
	wantField(t, err, "email")
	_, err = add("ops@ringfence.example", "r", true)
	wantKind(t, err, fault.NotFound)
	made, err := add(" Ops@ringfence.example ", "The first", false)
	if err != nil || len(made) < 20 {
		t.Fatalf("%q, %v", made, err)
	}
	token, _, err := h.SignIn(t.Context(), "ops@ringfence.example", made, address, browser)
	if err != nil {
		t.Fatal(err)
	}
	if who, err := h.Resolve(t.Context(), token); err != nil || !who.Operator {
		t.Errorf("%+v, %v", who, err)
	}
	// Somebody who signed up under an address is not made one unless that is meant.
	owner, _ := h.signIn(t)
	_, err = add("owner@north.example", "r", false)
	wantKind(t, err, fault.Conflict)
	if who, err := h.Resolve(t.Context(), owner); err != nil || who.Operator {
		t.Errorf("%+v, %v", who, err)
	}
	for range 2 {
		if made, err := add("owner@north.example", "On call", true); err != nil || made != "" {
			t.Fatalf("%q, %v", made, err)
		}
	}
	if who, err := h.Resolve(t.Context(), owner); err != nil || !who.Operator {
		t.Errorf("%+v, %v", who, err)
	}
	wantKind(t, h.RemoveOperator(t.Context(), "who@ringfence.example", "cli:ann", "r"), fault.NotFound)
	wantField(t, h.RemoveOperator(t.Context(), "owner@north.example", "cli:ann", ""), "reason")
	for _, email := range []string{"owner@north.example", "owner@north.example", "ops@ringfence.example"} {
		if err := h.RemoveOperator(t.Context(), email, "cli:ann", "Left"); err != nil {
			t.Fatal(err)
		}
	}
	if who, err := h.Resolve(t.Context(), owner); err != nil || who.Operator {
		t.Errorf("%+v, %v", who, err)
	}
	_, err = h.Resolve(t.Context(), token) // it was nothing but an operator's
	wantKind(t, err, fault.Unauthenticated)
	var log []string
	dbtest.Select(t, h.url, &log, `SELECT action || ' ' || actor || ' ' || reason FROM audit_log WHERE action LIKE 'operator.%' ORDER BY id`)
	if got := strings.Join(log, "; "); got != "operator.added cli:ann The first; operator.added cli:ann On call; operator.removed cli:ann Left; operator.removed cli:ann Left" {
		t.Errorf("the log says %s", got)
	}
}
