//go:build !unix

package embedded

import (
	"context"
	"errors"
)

var errUnsupported = errors.New("the embedded PostgreSQL runs on Unix systems only: set DATABASE_URL")

// FindBinaries always fails here.
func FindBinaries() (string, error) { return "", errUnsupported }

// Server cannot be had here.
type Server struct{}

// Start always fails here.
func Start(context.Context, Options) (*Server, error) { return nil, errUnsupported }

// URL is empty.
func (*Server) URL(string) string { return "" }

// Dir is empty.
func (*Server) Dir() string { return "" }

// Stop does nothing.
func (*Server) Stop() error { return nil }

// Done is never closed.
func (*Server) Done() <-chan struct{} { return nil }
