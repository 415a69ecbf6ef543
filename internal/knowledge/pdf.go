package knowledge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/klippa-app/go-pdfium"
	pdfiumerrors "github.com/klippa-app/go-pdfium/errors"
	"github.com/klippa-app/go-pdfium/requests"
	"github.com/klippa-app/go-pdfium/webassembly"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"ringfence/internal/fault"
)

const (
	// pdfBudget is how long one PDF may take to be read.
	pdfBudget = 10 * time.Second
	// pdfMemory is how much memory one PDF may take, in pages of 64 KiB: 64 MiB.
	pdfMemory = 1024
	// pdfAtOnce is how many PDFs are read at the same time; more wait, for pdfWait at most.
	pdfAtOnce = 2
	pdfWait   = 5 * time.Second
	// maxPages is how many pages a PDF may have.
	maxPages = 1000
	// maxText is how much text a document may hold, in bytes.
	maxText = 2 << 20
)

// pdfReader reads the text of PDFs with PDFium, the reader in Chromium, compiled to WebAssembly
// (github.com/klippa-app/go-pdfium): a file made to harm it meets walls that a library in Go, which cannot be stopped nor
// held to an amount of memory, does not have. Each file gets an instance of its own, with memory up to pdfMemory, no
// files, no network and no clock to itself, which is thrown away when the time is up or the text is read.
//
// It is put together when the first PDF comes, which takes two to three seconds, and stays as long as the process.
type pdfReader struct {
	// interpret starts ten times as fast and reads ten times as slowly: for tests.
	interpret bool
	// budget is pdfBudget, unless a test has less patience.
	budget time.Duration

	once sync.Once
	pool pdfium.Pool
	err  error
}

func newPDFReader(interpret bool) *pdfReader {
	return &pdfReader{interpret: interpret, budget: pdfBudget}
}

// start puts PDFium together, once.
func (p *pdfReader) start() (pdfium.Pool, error) {
	p.once.Do(func() {
		config := wazero.NewRuntimeConfig()
		if p.interpret {
			config = wazero.NewRuntimeConfigInterpreter()
		}
		p.pool, p.err = webassembly.Init(webassembly.Config{
			// It outlives the request that came first.
			Context:  experimental.WithMemoryAllocator(context.Background(), experimental.MemoryAllocatorFunc(allocate)),
			MaxTotal: pdfAtOnce,
			FSConfig: wazero.NewFSConfig(),
			Stdout:   io.Discard,
			Stderr:   io.Discard,
			RuntimeConfig: config.WithMemoryLimitPages(pdfMemory).WithCloseOnContextDone(true).
				WithCoreFeatures(api.CoreFeaturesV2 | experimental.CoreFeaturesExceptionHandling),
		})
		if p.err != nil {
			p.err = fmt.Errorf("couldn't start the reader of PDFs: %w", p.err)
		}
	})
	return p.pool, p.err
}

// memory is what an instance works in: one piece from the beginning, since growing would copy it again and again. The
// system gives it as it is touched.
type memory struct{ b []byte }

func allocate(_, most uint64) experimental.LinearMemory { return &memory{make([]byte, 0, most)} }

// Reallocate gives the first size bytes of it; nothing if there are not so many.
func (m *memory) Reallocate(size uint64) []byte {
	if size > uint64(cap(m.b)) {
		return nil
	}
	return m.b[:size]
}

// Free lets it go.
func (m *memory) Free() { m.b = nil }

// errTooLong marks a PDF that was given up.
var errTooLong = errors.New("reading took longer than it may")

// text gives the text of each page of a PDF, cleaned. What cannot be read is Invalid with the field "file" and says why;
// whatever goes wrong inside comes back as an error.
func (p *pdfReader) text(ctx context.Context, content []byte) (pages []string, err error) {
	defer func() {
		if r := recover(); r != nil {
			pages, err = nil, damaged(fmt.Errorf("the reader of PDFs panicked: %v", r))
		}
	}()
	pool, err := p.start()
	if err != nil {
		return nil, err
	}
	waiting, cancel := context.WithTimeout(ctx, pdfWait)
	defer cancel()
	instance, err := pool.GetInstanceWithContext(waiting)
	if err != nil {
		if waiting.Err() != nil {
			return nil, fault.Wrap(fault.Unavailable, "Many documents are being read just now. Try again in a minute.", waiting.Err())
		}
		return nil, fmt.Errorf("couldn't get a reader of PDFs: %w", err)
	}
	ctx, cancel = context.WithTimeoutCause(ctx, p.budget, errTooLong)
	defer cancel()
	killed := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { killed <- instance.Kill() })
	pages, err = readPages(instance, content)
	if stop() {
		if cerr := instance.Close(); cerr != nil && err == nil {
			err = fmt.Errorf("couldn't put the reader of PDFs away: %w", cerr)
		}
		return pages, err
	}
	// Its time was up, perhaps a moment after the last page: it was taken away, and is not trusted any more.
	err = errors.Join(context.Cause(ctx), err, <-killed)
	if errors.Is(err, errTooLong) {
		return nil, refused("This PDF takes too long to read. Save it anew, or in parts, and upload that.", err)
	}
	return nil, err // the person went away
}

// readPages reads page after page.
func readPages(instance pdfium.Pdfium, content []byte) ([]string, error) {
	doc, err := instance.OpenDocument(&requests.OpenDocument{File: &content})
	switch {
	case errors.Is(err, pdfiumerrors.ErrPassword) || errors.Is(err, pdfiumerrors.ErrSecurity):
		return nil, refused("This PDF is locked with a password, so it cannot be read. Save it without one and upload that.", err)
	case err != nil:
		return nil, damaged(err)
	}
	count, err := instance.FPDF_GetPageCount(&requests.FPDF_GetPageCount{Document: doc.Document})
	if err != nil {
		return nil, damaged(err)
	}
	if count.PageCount > maxPages {
		return nil, fault.Field("file", fmt.Sprintf("This PDF has more than %d pages. Upload it in parts.", maxPages))
	}
	pages := make([]string, 0, max(count.PageCount, 0))
	size := 0
	for i := range count.PageCount {
		page, err := instance.GetPageText(&requests.GetPageText{
			Page: requests.Page{ByIndex: &requests.PageByIndex{Document: doc.Document, Index: i}},
		})
		if err != nil {
			return nil, damaged(err)
		}
		text := clean(joined(page.Text))
		if size += len(text); size > maxText {
			return nil, tooMuchText()
		}
		pages = append(pages, text)
	}
	if len(pages) == 0 {
		return nil, damaged(errors.New("no pages"))
	}
	if strings.TrimSpace(strings.Join(pages, "")) == "" {
		return nil, fault.Field("file", "This PDF has no text: its pages are pictures, as from a scanner. Have the text recognised (OCR) first, and upload that.")
	}
	return pages, nil
}

// joined puts words together that were parted at the end of a line, where PDFium says that they were, and spells out
// ligatures, which nobody searches for.
func joined(text string) string {
	return strings.NewReplacer(
		"\ufffe\r\n", "", "\ufffe\n", "", "\ufffe", "", "\x02\r\n", "", "\x02\n", "", "\x02", "",
		"\ufb00", "ff", "\ufb01", "fi", "\ufb02", "fl", "\ufb03", "ffi", "\ufb04", "ffl", "\ufb05", "st", "\ufb06", "st",
	).Replace(text)
}

// refused is what the person can mend about the file, with its cause for the log.
func refused(public string, cause error) error {
	return &fault.Error{Kind: fault.Invalid, Field: "file", Public: public, Cause: cause}
}

func damaged(cause error) error {
	return refused("This PDF is damaged, or made in a way that we cannot read. Open it, save it again and upload that.", cause)
}

func tooMuchText() error {
	return fault.Field("file", fmt.Sprintf("This document holds more than %d MB of text. Upload it in parts.", maxText>>20))
}
