// Package failpoint names the moments at which a crash would hurt most, so that the fault suite can have a process die
// at exactly those. Without the build tag failpoints, which no shipped build has, a point compiles to nothing.
//
// With the tag, RINGFENCE_FAILPOINTS names a file. A process that reaches a point whose name stands in that file, on a
// line of its own, kills itself as kill -9 would: nothing deferred runs, no buffer is flushed, no connection is closed
// in order. The file is read at each point, so points are armed while the process runs.
package failpoint

// The points of the way from Stripe's request to the credit, of an automatic top-up and of a reversal.
const (
	// AcceptBeforeInsert is in the transaction that stores events, before its first statement.
	AcceptBeforeInsert = "accept/before-insert"
	// AcceptBeforeCommit is in the same transaction, when the events are inserted but not committed.
	AcceptBeforeCommit = "accept/before-commit"
	// AcceptBeforeAnswer is when the events are committed and nobody has been told.
	AcceptBeforeAnswer = "accept/before-answer"
	// WorkAfterFetch is when a worker has taken a job and not begun it.
	WorkAfterFetch = "work/after-fetch"
	// WorkBeforeCommit is in the transaction that credits, or takes back, when the wallets are changed but nothing is committed.
	WorkBeforeCommit = "work/before-commit"
	// WorkAfterCommit is when that is committed and the queue does not know yet that the job is done.
	WorkAfterCommit = "work/after-commit"
	// AutoTopUpBeforeAsk is when an automatic top-up is committed and Stripe has not been asked for it.
	AutoTopUpBeforeAsk = "autotopup/before-ask"
	// AutoTopUpAfterAsk is when Stripe has answered and nothing of it is stored.
	AutoTopUpAfterAsk = "autotopup/after-ask"
	// ReverseAfterAsking is when Stripe has said what became of a payment and nothing of that is stored.
	ReverseAfterAsking = "reverse/after-asking"
)

// The points of a step of a number's, whose name follows after a slash: "number/after-ask/purchase".
const (
	// NumberBeforeAsk is when the step is leased and its provider has not been asked.
	NumberBeforeAsk = "number/before-ask"
	// NumberAfterAsk is when its provider has answered and nothing of that is stored.
	NumberAfterAsk = "number/after-ask"
	// NumberAfterCommit is when that is stored and the queue does not know yet that the job is done.
	NumberAfterCommit = "number/after-commit"
)

// The points of placing a call.
const (
	// CallBeforeAsk is when its money is in flight and Vapi has not been asked.
	CallBeforeAsk = "call/before-ask"
	// CallAfterAsk is when Vapi has answered and nothing of that is stored.
	CallAfterAsk = "call/after-ask"
)
