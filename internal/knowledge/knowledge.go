// Package knowledge keeps an organisation's documents and finds passages in them. What is found is paid for first, through
// the gates of package wallet.
//
// A document is text, Markdown or a PDF. Its text is cut into passages of about a thousand tokens that overlap, and those
// are what is searched and answered with; the file itself is not kept.
package knowledge

import (
	"context"
	"log/slog"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/money"
	"ringfence/internal/wallet"
)

// Limits of what an organisation may keep.
const (
	// MaxFile is the largest file, in bytes.
	MaxFile = 300 << 10
	// MaxDocuments is how many documents there may be.
	MaxDocuments = 200
	// MaxChunks is how many passages they may have together; 200 text files of the largest size have fewer.
	MaxChunks = 20_000
)

// Options are what a service is made of.
type Options struct {
	DB    *db.DB
	Gates *wallet.Gates
	Log   *slog.Logger
	// Retriever finds the passages; nil is Postgres's full-text search.
	Retriever Retriever
	// Interpret has PDFs read by an interpreter, which is ready ten times as soon and reads ten times as slowly: for tests.
	Interpret bool
}

// Service is the knowledge base. It is safe for concurrent use.
type Service struct {
	db        *db.DB
	gates     *wallet.Gates
	log       *slog.Logger
	retriever Retriever
	pdf       *pdfReader
}

// New puts the knowledge base together.
func New(o Options) *Service {
	s := &Service{db: o.DB, gates: o.Gates, log: o.Log, retriever: o.Retriever, pdf: newPDFReader(o.Interpret)}
	if s.retriever == nil {
		s.retriever = FullText{DB: o.DB}
	}
	return s
}

// Price is what a search costs an organisation now. Where searches are not offered to it, that is a fault of kind
// Forbidden.
func (s *Service) Price(ctx context.Context, org uuid.UUID) (money.Pence, error) {
	amount, _, err := s.gates.Quote(ctx, wallet.HoldRequest{
		OrgID: org, Action: wallet.ActionKnowledge, Quantity: 1, Source: wallet.SourceKnowledge, Actor: audit.System("price"),
	})
	return amount, err
}
