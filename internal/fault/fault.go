// Package fault is the one error type that may reach a person: a kind, a public sentence and a private cause.
//
// Domain packages return faults where they know what to tell the person; any other error becomes a fixed 500 text at
// the edge (handlers/problem.go, the only place that knows HTTP statuses) and is logged there once.
package fault

import (
	"errors"
	"time"
)

// Kind says what went wrong in terms that every transport can map to its own status.
type Kind uint8

// The kinds. Internal is the zero value, so that a forgotten kind fails closed.
const (
	Internal        Kind = iota
	Invalid              // the input breaks a rule; Field names the part
	Unauthenticated      // nobody is signed in, or the proof does not hold
	Forbidden            // signed in, but not allowed
	NotFound             // no such thing for this organisation
	Conflict             // the thing is in another state, or the key was used for something else
	TooLarge             // the body is over its limit
	TooMany              // a limit was reached; RetryAfter says when to come back
	Unavailable          // we, or a provider, cannot answer now; safe to try again
	Declined             // the provider refused; trying the same again will not help
	Unpaid               // the wallet does not have what this costs; a top-up helps
	Malformed            // the request cannot be read, or lacks what every such request has
)

// Error is a failure with a sentence for the person and a cause for the log.
type Error struct {
	Kind Kind
	// Public is one plain sentence: what happened and what to do. It never holds a secret or an internal name.
	Public string
	// Field names the input the sentence belongs to; empty when it belongs to the whole request.
	Field string
	// RetryAfter is how long to wait before the next try; zero when there is nothing to say.
	RetryAfter time.Duration
	// Code is a stable name of the reason for programs, such as "insufficient_funds"; empty where the kind says enough.
	Code string
	// Members are figures for programs, by the names that they read them under; amounts are pence.
	Members map[string]int64
	// Cause is for the log only.
	Cause error
}

// Error gives the log's view; the public sentence alone is in Public.
func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Public + ": " + e.Cause.Error()
	}
	return e.Public
}

// Unwrap gives the private cause.
func (e *Error) Unwrap() error { return e.Cause }

// New returns a fault without a cause.
func New(kind Kind, public string) *Error { return &Error{Kind: kind, Public: public} }

// Wrap returns a fault that tells public to the person and cause to the log.
func Wrap(kind Kind, public string, cause error) *Error {
	return &Error{Kind: kind, Public: public, Cause: cause}
}

// Field returns an Invalid fault that belongs beside one input.
func Field(field, public string) *Error {
	return &Error{Kind: Invalid, Field: field, Public: public}
}

// As returns the fault in err's chain, or an Internal one with err as its cause. A nil err gives nil.
func As(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Kind: Internal, Public: "Something went wrong on our side. Try again, and write to us if it happens once more. Nothing was charged by this request unless your wallet shows it.", Cause: err}
}

// Is reports whether err carries a fault of this kind.
func Is(err error, kind Kind) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Kind == kind
}
