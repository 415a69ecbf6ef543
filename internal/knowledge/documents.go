package knowledge

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/fault"
)

// Document is one document as it is listed.
type Document struct {
	ID   uuid.UUID `db:"id"`
	Name string    `db:"name"`
	Kind Kind      `db:"kind"`
	// Bytes is the size of the file as it was sent.
	Bytes int `db:"bytes"`
	// Pages is how many pages a PDF has; 0 for text.
	Pages int `db:"pages"`
	// Chunks is how many passages its text was cut into.
	Chunks int `db:"chunks"`
	// UploadedBy is an e-mail; empty for people who left.
	UploadedBy string    `db:"uploaded_by"`
	CreatedAt  time.Time `db:"created_at"`
}

const (
	documentColumns = `d.id, d.name, d.kind, d.bytes, d.pages, d.chunks, coalesce(u.email, '') AS uploaded_by, d.created_at`
	documentTables  = `knowledge_documents d LEFT JOIN users u ON u.id = d.uploaded_by`
)

// Documents lists an organisation's documents, the newest first.
func (s *Service) Documents(ctx context.Context, org uuid.UUID) (list []Document, err error) {
	err = s.db.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		return tx.SelectContext(ctx, &list, `
			SELECT `+documentColumns+` FROM `+documentTables+`
			WHERE d.org_id = $1 ORDER BY d.created_at DESC, d.id LIMIT $2`, org, MaxDocuments)
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't list the documents: %w", err)
	}
	return list, nil
}

// Document gives one document; NotFound for one that another organisation has.
func (s *Service) Document(ctx context.Context, org, id uuid.UUID) (d Document, err error) {
	err = s.db.InReadTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		d, err = findDocument(ctx, tx, org, `d.id = $2`, id)
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return Document{}, errNoDocument()
	}
	return d, err
}

func errNoDocument() error { return fault.New(fault.NotFound, "There is no such document.") }

// findDocument gives the document that the condition on $2 finds, or sql.ErrNoRows.
func findDocument(ctx context.Context, tx *db.Tx, org uuid.UUID, condition string, arg any) (d Document, err error) {
	err = tx.GetContext(ctx, &d, `SELECT `+documentColumns+` FROM `+documentTables+` WHERE d.org_id = $1 AND `+condition, org, arg)
	if err != nil {
		return Document{}, fmt.Errorf("couldn't find the document: %w", err)
	}
	return d, nil
}

// File is a file that somebody sends.
type File struct {
	OrgID  uuid.UUID
	UserID uuid.UUID
	Actor  audit.Actor
	// Name is what the sender calls it; a path is shortened to its last part.
	Name    string
	Content []byte
}

// Upload reads a file and keeps its text. A file that is there already, byte for byte, under whatever name, is not kept
// twice: it gives the document there is, and true. That makes it safe to repeat.
//
// Faults carry the field "file": TooLarge over MaxFile; Invalid for what cannot be read, and why; Conflict for a name that
// another document has, and where the organisation has reached a limit; Unavailable when too much is being read.
func (s *Service) Upload(ctx context.Context, f File) (d Document, there bool, err error) {
	switch {
	case len(f.Content) > MaxFile:
		return d, false, TooLarge()
	case len(f.Content) == 0:
		return d, false, fault.Field("file", "This file is empty.")
	}
	sum := sha256.Sum256(f.Content)
	err = s.db.InReadTx(ctx, []uuid.UUID{f.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		d, err = findDocument(ctx, tx, f.OrgID, `d.sha256 = $2`, sum[:])
		return err
	})
	if err == nil {
		return d, true, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return d, false, err
	}
	read, err := s.read(ctx, f)
	if err != nil {
		return Document{}, false, err
	}
	err = s.db.InTx(ctx, []uuid.UUID{f.OrgID}, func(ctx context.Context, tx *db.Tx) error {
		d, there, err = read.keep(ctx, tx, f, sum[:])
		return err
	})
	if err != nil {
		return Document{}, false, err
	}
	return d, there, nil
}

// TooLarge is the refusal of a file over MaxFile.
func TooLarge() error {
	return &fault.Error{
		Kind: fault.TooLarge, Field: "file",
		Public: fmt.Sprintf("This file is larger than %d KB. Upload it in parts, or without its pictures.", MaxFile>>10),
	}
}

// passages are a document that was read and cut.
type passages struct {
	name   string
	kind   Kind
	pages  int
	texts  []string
	onPage []int64
}

// read finds out what a file is, and cuts its text. It touches no database.
func (s *Service) read(ctx context.Context, f File) (p passages, err error) {
	if p.name = nameOf(f.Name); p.name == "" {
		return p, fault.Field("file", "This file has no name. Give it one and upload it again.")
	}
	if p.kind, err = kindOf(p.name, f.Content); err != nil {
		return p, err
	}
	var text string
	var starts []int
	if p.kind == PDF {
		pages, err := s.pdf.text(ctx, f.Content)
		if err != nil {
			return p, err
		}
		p.pages = len(pages)
		var b strings.Builder
		for _, page := range pages {
			if b.Len() > 0 && page != "" {
				b.WriteString("\n\n")
			}
			starts = append(starts, b.Len())
			b.WriteString(page)
		}
		text = b.String()
	} else if text = clean(string(withoutMark(f.Content))); text == "" {
		return p, fault.Field("file", "This file has no text in it.")
	}
	chunks, err := split(text)
	if err != nil {
		return p, err
	}
	for _, c := range chunks {
		p.texts, p.onPage = append(p.texts, text[c.start:c.end]), append(p.onPage, int64(pageOf(starts, c.start)))
	}
	return p, nil
}

// keep writes the document and its passages, unless its content is there already.
func (p passages) keep(ctx context.Context, tx *db.Tx, f File, sum []byte) (d Document, there bool, err error) {
	// One upload of an organisation after the other: its limits are counted.
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('knowledge ' || $1::text, 0))`, f.OrgID); err != nil {
		return d, false, fmt.Errorf("couldn't wait for other uploads: %w", err)
	}
	d, err = findDocument(ctx, tx, f.OrgID, `d.sha256 = $2`, sum)
	if err == nil || !errors.Is(err, sql.ErrNoRows) {
		return d, err == nil, err
	}
	if err := p.fits(ctx, tx, f.OrgID); err != nil {
		return d, false, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return d, false, fmt.Errorf("couldn't make an id: %w", err)
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO knowledge_documents (id, org_id, name, kind, bytes, sha256, pages, chunks, uploaded_by, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		id, f.OrgID, p.name, p.kind, len(f.Content), sum, p.pages, len(p.texts), f.UserID, tx.Now)
	if err != nil {
		return d, false, fmt.Errorf("couldn't add the document: %w", err)
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO knowledge_chunks (org_id, document_id, position, page, text)
		SELECT $1, $2, c.position, c.page, c.text FROM unnest($3::int[], $4::text[]) WITH ORDINALITY c (page, text, position)`,
		f.OrgID, id, pq.Array(p.onPage), pq.Array(p.texts))
	if err != nil {
		return d, false, fmt.Errorf("couldn't add the passages: %w", err)
	}
	err = audit.Record(ctx, tx, audit.Entry{
		OrgID: f.OrgID, Actor: f.Actor, Action: "knowledge.uploaded", Subject: "document:" + id.String(),
		Detail: map[string]any{"name": p.name, "kind": p.kind, "bytes": len(f.Content), "sha256": hex.EncodeToString(sum), "chunks": len(p.texts)},
	})
	if err != nil {
		return d, false, err
	}
	d, err = findDocument(ctx, tx, f.OrgID, `d.id = $2`, id)
	return d, false, err
}

// fits refuses a name that is taken, and what goes beyond the organisation's limits.
func (p passages) fits(ctx context.Context, tx *db.Tx, org uuid.UUID) error {
	var has struct {
		Documents int  `db:"documents"`
		Chunks    int  `db:"chunks"`
		Named     bool `db:"named"`
	}
	err := tx.GetContext(ctx, &has, `
		SELECT count(*) AS documents, coalesce(sum(chunks), 0) AS chunks, coalesce(bool_or(name = $2), false) AS named
		FROM knowledge_documents WHERE org_id = $1`, org, p.name)
	if err != nil {
		return fmt.Errorf("couldn't count the documents: %w", err)
	}
	refuse := func(public string) error { return &fault.Error{Kind: fault.Conflict, Field: "file", Public: public} }
	switch {
	case has.Named:
		return refuse("There is another document with the name " + p.name + ". Delete that one first, or give this file another name.")
	case has.Documents >= MaxDocuments:
		return refuse(fmt.Sprintf("There are %d documents, which is as many as we keep. Delete one you no longer need first.", has.Documents))
	case has.Chunks+len(p.texts) > MaxChunks:
		return refuse("Your documents hold as much text as we keep. Delete one you no longer need first.")
	}
	return nil
}

// Delete removes a document and its passages for good; NotFound for one that is gone already, or of another organisation.
// Answers that were given from it stay until they are forgotten: see [Service.Sweep].
func (s *Service) Delete(ctx context.Context, org, id uuid.UUID, actor audit.Actor) error {
	return s.db.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM knowledge_chunks WHERE org_id = $1 AND document_id = $2`, org, id); err != nil {
			return fmt.Errorf("couldn't delete the passages: %w", err)
		}
		var gone struct {
			Name   string `db:"name"`
			SHA256 []byte `db:"sha256"`
		}
		err := tx.GetContext(ctx, &gone, `DELETE FROM knowledge_documents WHERE org_id = $1 AND id = $2 RETURNING name, sha256`, org, id)
		if errors.Is(err, sql.ErrNoRows) {
			return errNoDocument()
		}
		if err != nil {
			return fmt.Errorf("couldn't delete the document: %w", err)
		}
		return audit.Record(ctx, tx, audit.Entry{
			OrgID: org, Actor: actor, Action: "knowledge.deleted", Subject: "document:" + id.String(),
			Detail: map[string]any{"name": gone.Name, "sha256": hex.EncodeToString(gone.SHA256)},
		})
	})
}
