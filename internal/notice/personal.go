package notice

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
)

// PersonalKind is what a letter to one address is about.
type PersonalKind string

// The kinds; the schema knows the same ones.
const (
	Invitation      PersonalKind = "invitation"       // somebody is asked to join an organisation
	PasswordReset   PersonalKind = "password_reset"   // somebody wants to choose a new password
	PasswordChanged PersonalKind = "password_changed" // a password was changed
)

// Personal is a letter to one address, which its reader asked for, or somebody for them. Preferences do not hold it back.
type Personal struct {
	// ID is the letter's own, which Sealed is bound to.
	ID   uuid.UUID
	Kind PersonalKind
	// Address is whom it goes to. Empty is nobody: the row is written all the same and nothing is sent, so that asking
	// for a letter costs the same whoever it is for.
	Address string
	// Data are the facts that its words need; never a secret.
	Data map[string]any
	// Sealed is the token of its link, closed by whoever gave [Options.OpenToken]; nil where the link has none. It is
	// forgotten as soon as the letter is sent.
	Sealed []byte
	// Expires is when the letter tells nothing any more that still holds; it is not sent later.
	Expires time.Time
}

// Post keeps a letter, in the caller's system transaction, to be sent by the next round.
func Post(ctx context.Context, tx *db.Tx, p Personal) error {
	data, err := json.Marshal(p.Data)
	if err != nil {
		return fmt.Errorf("couldn't write the letter's facts: %w", err)
	}
	state := "queued"
	if p.Address == "" {
		state, p.Sealed = "dropped", nil
	}
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO personal_letters (id, kind, address, data, sealed_token, state, next_attempt_at, expires_at, created_at, ended_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $7, CASE WHEN $6 = 'queued' THEN NULL ELSE $7::timestamptz END)`,
		p.ID, string(p.Kind), p.Address, string(data), p.Sealed, state, tx.Now, p.Expires); err != nil {
		return fmt.Errorf("couldn't keep the letter: %w", err)
	}
	return nil
}

// personalKept is for how long what became of a letter can be looked up.
const personalKept = 30 * 24 * time.Hour

// personalRow is a letter to one address as it is stored.
type personalRow struct {
	ID        uuid.UUID    `db:"id"`
	Kind      PersonalKind `db:"kind"`
	Address   string       `db:"address"`
	Data      []byte       `db:"data"`
	Sealed    []byte       `db:"sealed_token"`
	Attempts  int          `db:"attempts"`
	CreatedAt time.Time    `db:"created_at"`
	ExpiresAt time.Time    `db:"expires_at"`
}

// claimPersonal takes letters to single addresses in hand, and removes those that nobody will ask about any more.
func (s *Service) claimPersonal(ctx context.Context) (letters []*letter, err error) {
	var rows []personalRow
	var at time.Time
	err = s.o.DB.InSystemTx(ctx, "letters to single addresses that are due", func(ctx context.Context, tx *db.Tx) error {
		rows, at = nil, tx.Now
		if _, err := tx.ExecContext(ctx, `DELETE FROM personal_letters WHERE expires_at <= $1`, tx.Now.Add(-personalKept)); err != nil {
			return fmt.Errorf("couldn't remove old letters: %w", err)
		}
		if err := tx.SelectContext(ctx, &rows, `
			UPDATE personal_letters SET attempts = attempts + 1, next_attempt_at = $2 WHERE id IN (
				SELECT id FROM personal_letters WHERE state = 'queued' AND next_attempt_at <= $1
				ORDER BY next_attempt_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED)
			RETURNING id, kind, address, data, sealed_token, attempts, created_at, expires_at`, tx.Now, tx.Now.Add(lease), sendAtOnce); err != nil {
			return fmt.Errorf("couldn't take letters to single addresses in hand: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		l := &letter{ID: r.ID, Kind: Kind(r.Kind), About: []string{r.ID.String()}, Attempts: r.Attempts, CreatedAt: r.CreatedAt, expires: r.ExpiresAt}
		letters = append(letters, l)
		if !r.ExpiresAt.After(at) {
			continue // without an address it is dropped
		}
		w, err := s.personalWords(r)
		if err != nil { // its key is gone, so its link can't be written
			s.o.Log.WarnContext(ctx, "a letter is dropped", "letter", r.ID, "kind", r.Kind, "error", err)
			continue
		}
		l.Email, l.told = r.Address, []Words{w}
	}
	return letters, nil
}

// facts are what letters to one address are posted with.
type facts struct {
	OrgName string    `json:"org_name"`
	Inviter string    `json:"inviter"`
	Role    string    `json:"role"`
	Until   time.Time `json:"until"`
	At      time.Time `json:"at"`
	From    string    `json:"from"`
}

// moment is a time as letters have it.
func moment(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04") + " UTC" }

// personalWords tells a letter to one address.
func (s *Service) personalWords(r personalRow) (Words, error) {
	var f facts
	if err := json.Unmarshal(r.Data, &f); err != nil {
		return Words{}, fmt.Errorf("couldn't read the facts of the letter: %w", err)
	}
	f.OrgName = strings.Join(strings.Fields(f.OrgName), " ") // it stands in the subject
	var w Words
	switch r.Kind {
	case Invitation:
		article := "a"
		if f.Role == "owner" {
			article = "an"
		}
		w = Words{
			Title: "You are invited to " + f.OrgName + " at Ringfence", Path: "/invitation", Link: "Look at the invitation",
			Text: fmt.Sprintf("%s asks you to join %s as %s %s. The invitation works once, until %s. If you did not expect it, do nothing and nothing happens.",
				f.Inviter, f.OrgName, article, f.Role, moment(f.Until)),
		}
	case PasswordReset:
		w = Words{
			Title: "Choose a new password", Path: "/password/reset", Link: "Choose a new password",
			Text: fmt.Sprintf("Somebody asked to choose a new password for your account. The link works once, until %s. If it was not you, do nothing: your password stays as it is.", moment(f.Until)),
		}
	case PasswordChanged:
		w = Words{
			Title: "Your password was changed", Path: "/password/forgot", Link: "Choose a new password",
			Text: fmt.Sprintf("The password of your account was changed on %s, from the address %s, and every other session has ended. If it was not you, choose a new one at once and tell an owner of your organisation.", moment(f.At), f.From),
		}
	default:
		return Words{}, fmt.Errorf("there are no words for a letter about %q", r.Kind)
	}
	if len(r.Sealed) > 0 {
		if s.o.OpenToken == nil {
			return Words{}, fmt.Errorf("nobody opens the token of a letter about %q", r.Kind)
		}
		token, err := s.o.OpenToken(r.ID, r.Sealed)
		if err != nil {
			return Words{}, err
		}
		w.Path += "?token=" + url.QueryEscape(token)
	}
	return w, nil
}
