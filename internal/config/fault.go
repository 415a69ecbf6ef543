package config

import (
	"fmt"
	"strings"
)

// Fault is one thing wrong with one variable. It never quotes the variable's value, which may be a secret, or a secret
// pasted into the wrong place.
type Fault struct {
	Variable string // the environment variable, for example "STRIPE_WEBHOOK_SECRET"
	Problem  string // what is wrong, to be read after the name: "is not set"
	Remedy   string // what to do, a sentence
}

// String gives the fault on one line.
func (f Fault) String() string { return f.Variable + " " + f.Problem + ". " + f.Remedy }

// Error is what Load returns: every fault there is, in the order in which Config declares the variables. The process
// must not start.
type Error struct{ Faults []Fault }

// Error lists the faults, numbered, one to a line.
func (e *Error) Error() string {
	var b strings.Builder
	if n := len(e.Faults); n == 1 {
		b.WriteString("the configuration has 1 fault:")
	} else {
		fmt.Fprintf(&b, "the configuration has %d faults:", n)
	}
	for i, f := range e.Faults {
		fmt.Fprintf(&b, "\n  %d. %s", i+1, f)
	}
	return b.String()
}

// problem is a fault whose variable the caller knows.
type problem struct{ what, remedy string }

func (p *problem) Error() string { return p.what + ". " + p.remedy }
