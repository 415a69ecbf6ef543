package telephony

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/riverqueue/river"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
)

// What operators do about numbers that do not go on by themselves, and about what a comparison has found. Each has a reason
// and its audit row, and is safe to repeat.

// underWayMost bounds the list of numbers that are on their way.
const underWayMost = 200

// UnderWay lists the numbers of every organisation that are on their way, and those whose newest token Vapi does not have yet:
// those that wait the longest first, at most 200 of either.
func (s *Numbers) UnderWay(ctx context.Context) (list []Number, err error) {
	err = s.o.DB.InSystemTx(ctx, "numbers under way, of every organisation", func(ctx context.Context, tx *db.Tx) error {
		return tx.SelectContext(ctx, &list, `
			(SELECT `+numberColumns+` FROM numbers WHERE next_at IS NOT NULL ORDER BY next_at LIMIT $1)
			UNION ALL
			(SELECT `+numberColumns+` FROM numbers WHERE tell_at IS NOT NULL ORDER BY tell_at LIMIT $1)`, underWayMost)
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't list the numbers under way: %w", err)
	}
	return list, nil
}

// Find gives a number of whatever organisation, for operators; NotFound where there is none.
func (s *Numbers) Find(ctx context.Context, id uuid.UUID) (n Number, err error) {
	err = s.o.DB.InSystemTx(ctx, "a number that an operator looks at", func(ctx context.Context, tx *db.Tx) error {
		var found bool
		if n, found, err = readNumber(ctx, tx, `WHERE id = $1`, id); err == nil && !found {
			return errNoNumber()
		}
		return err
	})
	return n, err
}

// mendReason is the reason in its one form; it may not be empty.
func mendReason(reason string) (string, error) {
	if reason = strings.TrimSpace(reason); reason == "" || len(reason) > 500 {
		return "", fault.Field("reason", "Give a reason of at most 500 characters.")
	}
	return reason, nil
}

// MendWhat is what a [Mend] puts right.
type MendWhat string

// What can be put right.
const (
	MendConnection MendWhat = "connection" // an active number that Vapi does not have: see [Numbers.Reconnect]
	MendStray      MendWhat = "stray"      // what a provider has and nobody here: see [Numbers.RemoveStray]
	MendLinks      MendWhat = "links"      // what points at numbers that are gone: see [Numbers.Unpoint]
)

// LinksInvariant is the promise that [MendLinks] mends.
const LinksInvariant = "nothing-points-at-what-is-gone"

// Mend is the job that does what an operator has decided about a finding. It is safe to repeat.
type Mend struct {
	What MendWhat `json:"what"`
	// OrgID and Number name the number to connect, Provider and ID what is to be taken away.
	OrgID    uuid.UUID   `json:"org_id"`
	Number   uuid.UUID   `json:"number"`
	Provider string      `json:"provider,omitempty"`
	ID       string      `json:"id,omitempty"`
	Actor    audit.Actor `json:"actor"`
	Reason   string      `json:"reason"`
	// RequestID is the request that it was decided in; AskMend fills it in.
	RequestID string `json:"request_id"`
}

// Kind names the job in the queue.
func (Mend) Kind() string { return "mend" }

// InsertOpts has a provider that does not answer asked again for some minutes. After that the finding is still there, and can be
// decided about again.
func (Mend) InsertOpts() river.InsertOpts {
	return river.InsertOpts{Queue: QueueNumbers, MaxAttempts: 6}
}

// AskMend has a job put right what m names, and writes down who decided so, and why. Faults: Invalid with its field.
func (s *Numbers) AskMend(ctx context.Context, m Mend) (err error) {
	if m.Reason, err = mendReason(m.Reason); err != nil {
		return err
	}
	m.RequestID = audit.RequestID(ctx)
	subject := "integrity:" + string(m.What)
	switch m.What {
	case MendConnection:
		subject = "number:" + m.Number.String()
	case MendStray:
		subject = "stray:" + m.ID
	case MendLinks:
	}
	return s.o.DB.InSystemTx(ctx, "what an operator has put right, whosever it is", func(ctx context.Context, tx *db.Tx) error {
		if _, err := s.o.Jobs.InsertTx(ctx, tx.Tx.Tx, m, nil); err != nil {
			return fmt.Errorf("couldn't add the job that mends: %w", err)
		}
		return audit.Record(ctx, tx, audit.Entry{
			OrgID: m.OrgID, Actor: m.Actor, Action: "integrity.mend", Subject: subject, Reason: m.Reason, Detail: map[string]any{"what": string(m.What)},
		})
	})
}

// Mend puts right what m names. Faults as those of what does it.
func (s *Numbers) Mend(ctx context.Context, m Mend) (err error) {
	ctx = audit.WithRequestID(ctx, m.RequestID) // what comes of a decision is written down with it
	switch m.What {
	case MendConnection:
		_, err = s.Reconnect(ctx, ReleaseRequest{OrgID: m.OrgID, Number: m.Number, Actor: m.Actor, Reason: m.Reason})
	case MendStray:
		_, _, err = s.RemoveStray(ctx, StrayRequest{Provider: m.Provider, ID: m.ID, Actor: m.Actor, Reason: m.Reason})
	case MendLinks:
		_, err = s.Unpoint(ctx, m.Actor, m.Reason)
	default:
		err = fault.New(fault.NotFound, "There is nothing like that to put right.")
	}
	return err
}

// Unpoint takes away what points at numbers that are gone, whosever it is: agents lose numbers that are not their organisation's
// active ones, and our credentials go where no number needs them. A customer's own credential stays. It says how much that was,
// and is safe to repeat.
func (s *Numbers) Unpoint(ctx context.Context, actor audit.Actor, reason string) (n int, err error) {
	var orgs []uuid.UUID
	err = s.o.DB.InSystemTx(ctx, "what points at numbers that are gone, of every organisation", func(ctx context.Context, tx *db.Tx) error {
		orgs = nil
		if err := tx.ReadWidely(ctx); err != nil {
			return err
		}
		return tx.SelectContext(ctx, &orgs, `
			SELECT a.org_id FROM agents a LEFT JOIN numbers n ON n.id = a.number_id AND n.org_id = a.org_id AND n.state = 'active' WHERE a.number_id IS NOT NULL AND n.id IS NULL
			UNION
			SELECT c.org_id FROM credentials c WHERE c.kind = 'managed'
			       AND NOT EXISTS (SELECT FROM numbers n WHERE n.org_id = c.org_id AND n.kind = 'managed' AND n.state IN `+liveStates+`)
			ORDER BY 1`)
	})
	if err != nil {
		return 0, fmt.Errorf("couldn't look for what points at numbers that are gone: %w", err)
	}
	var all error
	for _, org := range orgs {
		mended := 0
		err := s.o.DB.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) (err error) {
			if _, err := lockAccount(ctx, tx, org); err != nil {
				return err
			}
			mended, err = unpointAgents(ctx, tx, org, actor, reason)
			if err != nil {
				return err
			}
			_, had, err := credential(ctx, tx, org, Managed)
			if err != nil || !had {
				return err
			}
			if err := s.dropManaged(ctx, tx, org); err != nil {
				return err
			}
			_, has, err := credential(ctx, tx, org, Managed)
			if !has {
				mended++
			}
			return err
		})
		if err != nil {
			all = errors.Join(all, fmt.Errorf("organisation %s: %w", org, err))
			continue
		}
		n += mended
	}
	return n, all
}

// unpointAgents takes from an organisation's agents the numbers that are not active ones of its own. Its account is locked.
func unpointAgents(ctx context.Context, tx *db.Tx, org uuid.UUID, actor audit.Actor, reason string) (int, error) {
	var agents []uuid.UUID
	if err := tx.SelectContext(ctx, &agents, `
		UPDATE agents SET number_id = NULL, updated_at = $2 WHERE org_id = $1 AND number_id IS NOT NULL
		       AND NOT EXISTS (SELECT FROM numbers n WHERE n.id = agents.number_id AND n.org_id = $1 AND n.state = 'active') RETURNING id`, org, tx.Now); err != nil {
		return 0, fmt.Errorf("couldn't unlink the agents: %w", err)
	}
	entries := make([]audit.Entry, len(agents))
	for i, id := range agents {
		entries[i] = audit.Entry{OrgID: org, Actor: actor, Action: "agent.unlinked", Subject: "agent:" + id.String(), Reason: reason}
	}
	return len(agents), audit.Record(ctx, tx, entries...)
}

// Expedite has a number that waits go on now: an active one waits only until Vapi has its newest token. For one that has come to
// its end nothing is left to be done; any other is a Conflict.
func (s *Numbers) Expedite(ctx context.Context, r ReleaseRequest) (n Number, err error) {
	if r.Reason, err = mendReason(r.Reason); err != nil {
		return Number{}, err
	}
	err = s.o.DB.InTx(ctx, []uuid.UUID{r.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		var found bool
		if n, found, err = readNumber(ctx, tx, `WHERE org_id = $1 AND id = $2 FOR NO KEY UPDATE`, r.OrgID, r.Number); err != nil {
			return err
		}
		switch {
		case !found:
			return errNoNumber()
		case n.State == NumberReleased, n.State == NumberFailed:
			n.Repeated = true
			return nil
		case n.TellAt != nil:
			if _, err := tx.ExecContext(ctx, `UPDATE numbers SET tell_at = $2 WHERE id = $1 AND tell_at > $2`, n.ID, tx.Now); err != nil {
				return fmt.Errorf("couldn't bring the telling of a token forward: %w", err)
			}
			if err := s.enqueueToken(ctx, tx, &n, time.Time{}); err != nil {
				return err
			}
			return n.record(ctx, tx, "number.expedited", r.Actor, r.Reason, map[string]any{"step": "token"})
		case n.Step == "":
			return &fault.Error{Kind: fault.Conflict, Code: "number_not_waiting", Public: "This number does not wait for anything."}
		case n.NextAt.After(tx.Now): // else its job is there, or somebody has it in hand
			if err := tx.GetContext(ctx, &n, `UPDATE numbers SET next_at = $2 WHERE id = $1 RETURNING `+numberColumns, n.ID, tx.Now); err != nil {
				return fmt.Errorf("couldn't bring the number forward: %w", err)
			}
		}
		if err := s.enqueue(ctx, tx, &n, time.Time{}); err != nil {
			return err
		}
		return n.record(ctx, tx, "number.expedited", r.Actor, r.Reason, map[string]any{"step": string(n.Step)})
	})
	return n, err
}

// Reconnect has Vapi answer an active number that it does not have any more: what its list has of the number is taken, else
// it is imported again. Where Vapi has it as we do, nothing changes. Faults: NotFound; Conflict for one that is not active,
// or that something else was done with meanwhile; Unavailable where a provider did not answer.
func (s *Numbers) Reconnect(ctx context.Context, r ReleaseRequest) (n Number, err error) {
	if r.Reason, err = mendReason(r.Reason); err != nil {
		return Number{}, err
	}
	if !s.On() {
		return Number{}, errNumbersOff()
	}
	if n, err = s.Number(ctx, r.OrgID, r.Number); err != nil {
		return Number{}, err
	}
	if n.State != NumberActive {
		return Number{}, &fault.Error{Kind: fault.Conflict, Code: "number_not_active", Public: "Only an active number can be connected again."}
	}
	at, err := s.vapi.number(ctx, n.VapiID.String)
	switch {
	case err == nil && at.Number == n.PhoneNumber:
		n.Repeated = true
		return n, nil
	case err != nil && !gone(err):
		return Number{}, providerAway(err)
	}
	id, version, err := s.importAgain(ctx, n)
	if err != nil {
		return Number{}, providerAway(err)
	}
	old := n.VapiID.String
	err = s.o.DB.InTx(context.WithoutCancel(ctx), []uuid.UUID{r.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := lockAccount(ctx, tx, r.OrgID); err != nil {
			return err
		}
		now, _, err := readNumber(ctx, tx, `WHERE org_id = $1 AND id = $2 FOR NO KEY UPDATE`, r.OrgID, r.Number)
		if err != nil {
			return err
		}
		if now.State != NumberActive || now.VapiID.String != old {
			return &fault.Error{Kind: fault.Conflict, Code: "number_changed", Public: "Something else was done with this number meanwhile. Compare again."}
		}
		if err := tx.GetContext(ctx, &n, `UPDATE numbers SET vapi_id = $2 WHERE id = $1 RETURNING `+numberColumns, n.ID, id); err != nil {
			return fmt.Errorf("couldn't store where the number is at Vapi: %w", err)
		}
		if _, err := s.hasToken(ctx, tx, &n, version); err != nil {
			return err
		}
		return n.record(ctx, tx, "number.reconnected", r.Actor, r.Reason, map[string]any{"vapi_id": id, "was": old})
	})
	return n, err
}

// importAgain gives the number's name at Vapi: the one it has there, or one that is made. version is that of the credential that
// Vapi was given for it, 0 where nobody knows.
func (s *Numbers) importAgain(ctx context.Context, n Number) (id string, version int, err error) {
	found, err := s.vapi.findNumbers(ctx, n.PhoneNumber, n.AccountSID.String)
	if err != nil {
		return "", 0, err
	}
	if len(found) > 0 {
		return found[0].ID, 0, nil
	}
	c, err := s.acting(ctx, n, false)
	if err != nil {
		return "", 0, err
	}
	id, err = s.vapi.importNumber(ctx, n.PhoneNumber, n.ID.String(), c.of, s.o.Events.server())
	return id, c.of.version, err
}

// StrayRequest has something taken away that a provider has and nobody here.
type StrayRequest struct {
	// Provider and ID name it as a comparison did.
	Provider, ID string
	Actor        audit.Actor
	Reason       string
}

// RemoveStray compares once more, and takes away what is still nobody's: a number is given back, a subaccount is closed. It
// says that it is about to in the audit log before it asks the provider, and that it did after. found is false, and nothing
// is done, where it is not there any more or is somebody's by now. Faults: Invalid with its field; Unavailable where the
// provider did not answer.
func (s *Numbers) RemoveStray(ctx context.Context, r StrayRequest) (o Stray, found bool, err error) {
	if r.Reason, err = mendReason(r.Reason); err != nil {
		return Stray{}, false, err
	}
	c, err := s.Compare(ctx)
	if err != nil {
		return Stray{}, false, err
	}
	i := slices.IndexFunc(c.Orphans, func(o Stray) bool { return o.Provider == r.Provider && o.ID == r.ID })
	if i < 0 {
		for _, u := range c.Unreached {
			if u.Provider == r.Provider {
				return Stray{}, false, providerAway(errors.New(u.Why))
			}
		}
		return Stray{}, false, nil
	}
	o = c.Orphans[i]
	ctx = context.WithoutCancel(ctx)
	if err := s.recordStray(ctx, o, "stray.removing", r); err != nil {
		return Stray{}, false, err
	}
	if err := s.takeAway(ctx, o); err != nil {
		return Stray{}, false, providerAway(err)
	}
	r.Reason = "" // which stands beside the decision
	return o, true, s.recordStray(ctx, o, "stray.removed", r)
}

func (s *Numbers) recordStray(ctx context.Context, o Stray, action string, r StrayRequest) error {
	return s.o.DB.InSystemTx(ctx, "a number at a provider that is nobody's", func(ctx context.Context, tx *db.Tx) error {
		return audit.Record(ctx, tx, audit.Entry{
			OrgID: o.OrgID, Actor: r.Actor, Action: action, Subject: "stray:" + o.ID, Reason: r.Reason,
			Detail: map[string]any{"provider": o.Provider, "account_sid": o.AccountSID, "phone_number": o.PhoneNumber},
		})
	})
}

func (s *Numbers) takeAway(ctx context.Context, o Stray) error {
	if o.Provider == "Vapi" {
		return s.vapi.deleteNumber(ctx, o.ID)
	}
	c, err := s.client(s.parent)
	if err != nil {
		return err
	}
	if o.PhoneNumber == "" {
		return c.closeSubaccount(o.ID)
	}
	c.of.sid = o.AccountSID // a parent acts in its subaccounts
	return c.release(o.ID)
}
