package handlers

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"time"
)

// csvFile is a file of comma-separated values (RFC 4180) that is sent as it is read, part by part.
type csvFile struct {
	w     http.ResponseWriter
	out   *csv.Writer
	name  string
	head  []string
	begun bool
}

func newCSV(w http.ResponseWriter, name string, head ...string) *csvFile {
	f := &csvFile{w: w, out: csv.NewWriter(w), name: name, head: head}
	f.out.UseCRLF = true
	return f
}

// send sends lines. Nothing goes out before the first call, so that what fails before it is answered as any failure is.
func (f *csvFile) send(lines [][]string) error {
	if !f.begun {
		f.begun = true
		h := f.w.Header()
		h.Set("Content-Type", "text/csv; charset=utf-8; header=present")
		h.Set("Content-Disposition", `attachment; filename="`+f.name+`"`)
		lines = append([][]string{f.head}, lines...)
	}
	// The server's limit is for pages; here every part gets its own.
	deadline := time.Now().Add(csvWrite) //nolint:forbidigo // the kernel's deadlines go by the wall clock alone
	conn := http.NewResponseController(f.w)
	if err := conn.SetWriteDeadline(deadline); err != nil {
		return fmt.Errorf("couldn't give the reader time: %w", err)
	}
	if err := f.out.WriteAll(lines); err != nil {
		return fmt.Errorf("couldn't send the file: %w", err)
	}
	return conn.Flush()
}

// end sends the head where there were no lines.
func (f *csvFile) end() error {
	if f.begun {
		return nil
	}
	return f.send(nil)
}
