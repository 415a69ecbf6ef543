package embedded

import "log/slog"

// Options says where and how a cluster runs.
type Options struct {
	// Dir is the directory for the cluster; it is made when missing and must be used for nothing else. As root, its
	// parents should be open to the server's user (mode o+x), else the cluster goes to a fallback; see Server.Dir.
	Dir string
	// Unsafe trades durability for speed: no fsync, smaller buffers. For throw-away test clusters only.
	Unsafe bool
	// Logger is told where the cluster is and what happened to it; nil means silence. PostgreSQL's own messages go to
	// postgres.log.
	Logger *slog.Logger
	// MaxConnections is max_connections of the server; 0 means 60. An adopted server keeps what it was started with.
	MaxConnections int
}

func (o Options) logger() *slog.Logger {
	if o.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Logger
}
