package jobs

import (
	"context"
	"log/slog"
)

// riverLog is the log as River writes it. Every five seconds it says of each queue at info how many jobs were worked, which hides what
// else there is to read: what it says at info is said at debug. Warnings and errors stay what they are.
func riverLog(log *slog.Logger) *slog.Logger {
	return slog.New(&quieter{log.Handler()}).With("part", "river")
}

type quieter struct{ slog.Handler }

// quiet is the level at which something is said.
func quiet(l slog.Level) slog.Level {
	if l == slog.LevelInfo {
		return slog.LevelDebug
	}
	return l
}

// Enabled implements slog.Handler.
func (h *quieter) Enabled(ctx context.Context, l slog.Level) bool {
	return h.Handler.Enabled(ctx, quiet(l))
}

// Handle implements slog.Handler.
func (h *quieter) Handle(ctx context.Context, r slog.Record) error {
	r.Level = quiet(r.Level)
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *quieter) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &quieter{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h *quieter) WithGroup(name string) slog.Handler { return &quieter{h.Handler.WithGroup(name)} }
