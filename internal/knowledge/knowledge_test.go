package knowledge_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/knowledge"
	"ringfence/internal/knowledge/knowledgetest"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
	"ringfence/internal/wallet/wallettest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// base is a knowledge base over a database of its own, with two organisations that have £5.00 each.
type base struct {
	*knowledge.Service
	t     *testing.T
	dbURL string
	db    *db.DB
	clock *dbtest.Clock
	gates *wallet.Gates
	org   uuid.UUID
	other uuid.UUID
	user  uuid.UUID // works in both
}

func newBase(t *testing.T, retriever func(*db.DB) knowledge.Retriever) *base {
	t.Helper()
	b := &base{t: t, dbURL: dbtest.URL(t), clock: &dbtest.Clock{}, user: uuid.Must(uuid.NewV7())}
	b.db = dbtest.OpenURL(t, b.dbURL, b.clock.Now)
	b.org, b.other = wallettest.Org(t, b.db, "Harbour Dental", 5_00), wallettest.Org(t, b.db, "Second Tenant", 5_00)
	t.Cleanup(func() { wallettest.CheckBooks(t, b.db, knowledge.Invariants...) })
	dbtest.Super(t, b.dbURL, `INSERT INTO users (id, issuer, subject, email, created_at) VALUES ($1, 'local', 'owner', 'owner@harbour.example', now())`, b.user)
	for _, org := range []uuid.UUID{b.org, b.other} {
		dbtest.Super(t, b.dbURL, `INSERT INTO memberships (org_id, user_id, role, created_at) VALUES ($1, $2, 'owner', now())`, org, b.user)
	}
	dbtest.Super(t, b.dbURL, `INSERT INTO exchange_rates (usd_to_gbp_micros, source, author, starts_at, created_at) VALUES (790000, 'test', 'test', '1970-01-01', now())`)
	log := slog.New(slog.DiscardHandler)
	b.gates = wallet.NewGates(wallet.GateOptions{DB: b.db, Now: b.clock.Now, Log: log})
	o := knowledge.Options{DB: b.db, Gates: b.gates, Log: log, Interpret: true}
	if retriever != nil {
		o.Retriever = retriever(b.db)
	}
	b.Service = knowledge.New(o)
	return b
}

func (b *base) send(org uuid.UUID, name, content string) (knowledge.Document, bool, error) {
	return b.Upload(context.Background(), knowledge.File{OrgID: org, UserID: b.user, Actor: audit.User(b.user), Name: name, Content: []byte(content)})
}

func (b *base) upload(org uuid.UUID, name, content string) knowledge.Document {
	b.t.Helper()
	d, there, err := b.send(org, name, content)
	if err != nil || there {
		b.t.Fatalf("uploading %s: %t, %v", name, there, err)
	}
	return d
}

func (b *base) ask(key, text string, limit int) (knowledge.Answer, error) {
	return b.Search(context.Background(), knowledge.Query{OrgID: b.org, Actor: audit.User(b.user), Key: key, Text: text, Limit: limit})
}

func (b *base) found(key, text string, limit int) []knowledge.Hit {
	b.t.Helper()
	a, err := b.ask(key, text, limit)
	if err != nil {
		b.t.Fatalf("searching for %q: %v", text, err)
	}
	return a.Hits
}

// wantWallet says what must be left of £5.00, and that nothing is set aside.
func (b *base) wantWallet(what string, spent money.Pence) {
	b.t.Helper()
	var balance, held int64
	dbtest.Get(b.t, b.dbURL, &balance, `SELECT balance_pence FROM wallets WHERE org_id = $1`, b.org)
	dbtest.Get(b.t, b.dbURL, &held, `SELECT held_pence FROM wallets WHERE org_id = $1`, b.org)
	if balance != int64(5_00-spent) || held != 0 {
		b.t.Errorf("%s: %dp in the wallet and %dp held, want %dp and nothing", what, balance, held, 5_00-spent)
	}
}

func (b *base) count(query string, args ...any) (n int) {
	b.t.Helper()
	dbtest.Get(b.t, b.dbURL, &n, query, args...)
	return n
}

func wantFault(t *testing.T, what string, err error, kind fault.Kind, says string) {
	t.Helper()
	if f := fault.As(err); f == nil || f.Kind != kind || !strings.Contains(f.Public, says) {
		t.Errorf("%s: %v, want kind %d and %q", what, err, kind, says)
	}
}

const hours = "# Opening hours\n\nWe are open from nine to five, on Saturdays from ten to two. On Sundays we are closed.\n"

func TestUpload(t *testing.T) {
	t.Parallel()
	b := newBase(t, nil)
	md := b.upload(b.org, `C:\docs\Hours.md`, hours)
	b.clock.Advance(time.Minute)
	pdf := b.upload(b.org, "prices.pdf", string(knowledgetest.PDF("A check-up costs forty pounds.", "Whitening is not offered.")))
	b.clock.Advance(time.Minute)
	long := b.upload(b.org, "long.txt", strings.Repeat("Please brush your teeth twice a day. ", 500))
	want := []knowledge.Document{
		{ID: long.ID, Name: "long.txt", Kind: knowledge.Text, Bytes: 18_500, Chunks: 5, UploadedBy: "owner@harbour.example", CreatedAt: dbtest.Start.Add(2 * time.Minute)},
		{ID: pdf.ID, Name: "prices.pdf", Kind: knowledge.PDF, Bytes: pdf.Bytes, Pages: 2, Chunks: 1, UploadedBy: "owner@harbour.example", CreatedAt: dbtest.Start.Add(time.Minute)},
		{ID: md.ID, Name: "Hours.md", Kind: knowledge.Markdown, Bytes: len(hours), Chunks: 1, UploadedBy: "owner@harbour.example", CreatedAt: dbtest.Start},
	}
	list, err := b.Documents(t.Context(), b.org)
	if err != nil {
		t.Fatal(err)
	}
	for i := range list {
		list[i].CreatedAt = list[i].CreatedAt.UTC()
	}
	if !slices.Equal(list, want) {
		t.Errorf("the list is\n%+v, want\n%+v", list, want)
	}
	one, err := b.Document(t.Context(), b.org, pdf.ID)
	if err != nil || one.Name != "prices.pdf" {
		t.Errorf("one: %+v, %v", one, err)
	}
	if n := b.count(`SELECT count(*) FROM knowledge_documents d WHERE chunks <> (SELECT count(*) FROM knowledge_chunks c WHERE c.org_id = d.org_id AND c.document_id = d.id)`); n > 0 {
		t.Errorf("%d documents have other passages than they say", n)
	}
	var detail string
	dbtest.Get(t, b.dbURL, &detail, `SELECT detail::text FROM audit_log WHERE action = 'knowledge.uploaded' AND org_id = $1 AND actor = $2 AND subject = $3`, b.org, audit.User(b.user), "document:"+md.ID.String())
	if !strings.Contains(detail, "Hours.md") {
		t.Errorf("the audit log says %s", detail)
	}

	// The same again is there already, whatever it is called now.
	for name, content := range map[string]string{"Hours.md": hours, "Hours (2).md": hours} {
		d, there, err := b.send(b.org, name, content)
		if err != nil || !there || d.ID != md.ID {
			t.Errorf("%s again: %+v, %t, %v", name, d, there, err)
		}
	}
	_, _, err = b.send(b.org, "Hours.md", "Other hours.")
	wantFault(t, "another text of that name", err, fault.Conflict, "another document with the name Hours.md")
	if d := b.upload(b.other, "Hours.md", hours); d.ID == md.ID {
		t.Error("another organisation was given ours")
	}
}

func TestUploadRefused(t *testing.T) {
	t.Parallel()
	b := newBase(t, nil)
	for _, c := range []struct {
		name, content string
		kind          fault.Kind
		says          string
	}{
		{"a.txt", "", fault.Invalid, "is empty"},
		{"a.txt", " \n\t\n", fault.Invalid, "no text in it"},
		{"", "Text", fault.Invalid, "has no name"},
		{"a.png", "\x89PNG\x00", fault.Invalid, "neither text nor a PDF"},
		{"a.pdf", "%PDF-1.4 but no more", fault.Invalid, "damaged"},
		{"scan.pdf", string(knowledgetest.Drawn("", nil, "0 0 9 9 re f")), fault.Invalid, "OCR"},
		{"a.txt", strings.Repeat("a", knowledge.MaxFile+1), fault.TooLarge, "larger than 300 KB"},
	} {
		_, _, err := b.send(b.org, c.name, c.content)
		wantFault(t, c.says, err, c.kind, c.says)
		if fault.As(err).Field != "file" {
			t.Errorf("%s belongs to the field %q", c.says, fault.As(err).Field)
		}
	}
	if n := b.count(`SELECT count(*) FROM knowledge_documents`); n > 0 {
		t.Errorf("%d documents were kept", n)
	}
	b.upload(b.org, "largest.txt", strings.Repeat("Largest. ", knowledge.MaxFile/9)+"12345678"[:knowledge.MaxFile%9])
}

func TestUploadLimits(t *testing.T) {
	t.Parallel()
	b := newBase(t, nil)
	plant := `INSERT INTO knowledge_documents (id, org_id, name, kind, bytes, sha256, pages, chunks, uploaded_by, created_at)
	          SELECT gen_random_uuid(), $1, 'planted ' || i, 'text', 1, sha256(i::text::bytea), 0, $4, $2, now() FROM generate_series(1, $3) i`
	dbtest.Super(t, b.dbURL, plant, b.org, b.user, knowledge.MaxDocuments-1, 1)
	dbtest.Super(t, b.dbURL, plant, b.other, b.user, 1, knowledge.MaxChunks-1)
	// Two at once, and room for one.
	var group sync.WaitGroup
	errs := make([]error, 2)
	for i := range errs {
		group.Go(func() { _, _, errs[i] = b.send(b.org, fmt.Sprintf("%d.txt", i), fmt.Sprintf("Text %d", i)) })
	}
	group.Wait()
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Errorf("of two uploads with room for one: %v", errs)
	}
	wantFault(t, "one too many", errors.Join(errs...), fault.Conflict, "There are 200 documents")
	_, _, err := b.send(b.other, "long.txt", strings.Repeat("Too much. ", 700))
	wantFault(t, "too much text", err, fault.Conflict, "as much text as we keep")
	b.upload(b.other, "short.txt", "Just enough.")
	dbtest.Super(t, b.dbURL, `DELETE FROM knowledge_documents WHERE name LIKE 'planted %'`) // they have no passages
}

// The same file sent many times at once is kept once.
func TestUploadAtOnce(t *testing.T) {
	t.Parallel()
	b := newBase(t, nil)
	var group sync.WaitGroup
	ids := make([]uuid.UUID, 8)
	news := make([]bool, 8)
	for i := range ids {
		group.Go(func() {
			d, there, err := b.send(b.org, "Hours.md", hours)
			if err != nil {
				t.Error(err)
			}
			ids[i], news[i] = d.ID, !there
		})
	}
	group.Wait()
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	if made := len(slices.DeleteFunc(news, func(n bool) bool { return !n })); len(slices.Compact(ids)) != 1 || made != 1 {
		t.Errorf("%d were told that theirs is new", made)
	}
	if n := b.count(`SELECT count(*) FROM knowledge_chunks`); n != 1 {
		t.Errorf("%d passages", n)
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	b := newBase(t, nil)
	d := b.upload(b.org, "Hours.md", hours)
	wantFault(t, "another organisation's", b.Delete(t.Context(), b.other, d.ID, audit.User(b.user)), fault.NotFound, "no such document")
	if _, err := b.Document(t.Context(), b.other, d.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("another organisation's: %v", err)
	}
	if len(b.found("before", "saturdays", 0)) != 1 {
		t.Error("it is not found")
	}
	if err := b.Delete(t.Context(), b.org, d.ID, audit.User(b.user)); err != nil {
		t.Fatal(err)
	}
	wantFault(t, "again", b.Delete(t.Context(), b.org, d.ID, audit.User(b.user)), fault.NotFound, "no such document")
	if n := b.count(`SELECT (SELECT count(*) FROM knowledge_documents) + (SELECT count(*) FROM knowledge_chunks)`); n > 0 {
		t.Errorf("%d rows are left", n)
	}
	if n := b.count(`SELECT count(*) FROM audit_log WHERE action = 'knowledge.deleted' AND org_id = $1 AND detail->>'name' = 'Hours.md'`, b.org); n != 1 {
		t.Errorf("%d rows in the audit log", n)
	}
	if hits := b.found("after", "saturdays", 0); len(hits) > 0 {
		t.Errorf("still found: %+v", hits)
	}
	b.upload(b.org, "Hours.md", hours)
}

// Whatever a query of one organisation says, it sees no row of another's, by the functions or past them.
func TestTenants(t *testing.T) {
	t.Parallel()
	b := newBase(t, nil)
	d := b.upload(b.org, "Hours.md", hours)
	b.found("ours", "saturdays", 0)
	theirs := b.upload(b.other, "Theirs.md", "Nothing about that day.")

	list, err := b.Documents(t.Context(), b.other)
	if err != nil || len(list) != 1 || list[0].ID != theirs.ID {
		t.Errorf("the list of another organisation is %+v, %v", list, err)
	}
	a, err := b.Search(t.Context(), knowledge.Query{OrgID: b.other, Actor: audit.User(b.user), Key: "ours", Text: "saturdays"})
	if err != nil || len(a.Hits) > 0 || a.Repeated {
		t.Errorf("another organisation finds, with the same key: %+v, %v", a, err)
	}
	seen := func(what, query string, args ...any) {
		t.Helper()
		err := b.db.InReadTx(t.Context(), []uuid.UUID{b.other}, func(ctx context.Context, tx *db.Tx) error {
			var n int
			if err := tx.GetContext(ctx, &n, query, args...); err != nil || n > 0 {
				t.Errorf("%s: %d rows, %v", what, n, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	seen("documents", `SELECT count(*) FROM knowledge_documents WHERE org_id <> $1`, b.other)
	seen("passages", `SELECT count(*) FROM knowledge_chunks WHERE org_id = $1`, b.org)
	seen("answers", `SELECT count(*) FROM knowledge_searches WHERE org_id = $1`, b.org)
	seen("the function that is past row-level security", `SELECT count(*) FROM knowledge_matches($1, 'saturday', 9)`, b.org)
	for what, statement := range map[string]string{
		"adding to another's document":       `INSERT INTO knowledge_chunks (org_id, document_id, position, page, text) VALUES ($1, $2, 9, 0, 'x')`,
		"adding in another's name":           `INSERT INTO knowledge_chunks (org_id, document_id, position, page, text) VALUES ($3, $2, 9, 0, 'x')`,
		"changing what was kept":             `UPDATE knowledge_chunks SET text = 'x' WHERE document_id = $2 AND $1::uuid <> $3::uuid`,
		"changing what was answered":         `UPDATE knowledge_searches SET result = '[]' WHERE $1::uuid <> $2::uuid AND $1::uuid <> $3::uuid`,
		"removing what was answered, at all": `DELETE FROM knowledge_searches WHERE $1::uuid <> $2::uuid AND $1::uuid <> $3::uuid`,
	} {
		err := b.db.InTx(t.Context(), []uuid.UUID{b.other}, func(ctx context.Context, tx *db.Tx) error {
			_, err := tx.ExecContext(ctx, statement, b.other, d.ID, b.org)
			return err
		})
		if err == nil {
			t.Errorf("%s went well", what)
		}
	}
	err = b.db.InSystemTx(t.Context(), "test", func(ctx context.Context, tx *db.Tx) error {
		var n int
		return tx.GetContext(ctx, &n, `SELECT count(*) FROM knowledge_matches($1, 'saturday', 9)`, b.org)
	})
	if err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("the system's role may search: %v", err)
	}
}

// What is sought in a large base is found by the index, not by reading everything the organisation has.
func TestSearchUsesTheIndex(t *testing.T) {
	t.Parallel()
	b := newBase(t, nil)
	d := b.upload(b.org, "Hours.md", hours)
	dbtest.Super(t, b.dbURL, `
		INSERT INTO knowledge_chunks (org_id, document_id, position, page, text)
		SELECT $1, $2, 1 + i, 0, (SELECT string_agg('word' || (i * 7919 + j * 104729) % 5003, ' ') FROM generate_series(1, 60) j) FROM generate_series(1, 2000) i`, b.org, d.ID)
	dbtest.Super(t, b.dbURL, `UPDATE knowledge_documents SET chunks = 2001 WHERE id = $1`, d.ID)
	dbtest.Super(t, b.dbURL, `ANALYZE knowledge_chunks`)
	err := b.db.InReadTx(t.Context(), []uuid.UUID{b.org}, func(ctx context.Context, tx *db.Tx) error {
		var found, scans int
		if err := tx.GetContext(ctx, &found, `SELECT count(*) FROM knowledge_matches($1, 'saturday', 9)`, b.org); err != nil {
			return err
		}
		if err := tx.GetContext(ctx, &scans, `SELECT pg_stat_get_xact_numscans('knowledge_chunks_search'::regclass)`); err != nil {
			return err
		}
		if found != 1 || scans != 1 {
			t.Errorf("%d found, with %d looks into the index", found, scans)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
