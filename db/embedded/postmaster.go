//go:build unix

package embedded

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/lib/pq"
)

const (
	superuser = "ringfence"
	// port only names the socket file (.s.PGSQL.5432); nothing listens on TCP.
	port = "5432"
	// cannotConnectNow is the SQLSTATE of a server that is starting up or shutting down.
	cannotConnectNow = "57P03"
)

// socketURL is a connection string that lib/pq and pgx both understand.
func socketURL(socketDir, database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(superuser),
		Path:     "/" + database,
		RawQuery: url.Values{"host": {socketDir}, "port": {port}, "sslmode": {"disable"}}.Encode(),
	}
	return u.String()
}

// postmaster is what data/postmaster.pid says about the server on a cluster.
type postmaster struct {
	pid    int
	socket string
}

// readPostmaster reads data/postmaster.pid. A missing file is fs.ErrNotExist; a half-written one gives what is there.
// The lines are described in PostgreSQL's src/include/utils/pidfile.h.
func readPostmaster(data string) (postmaster, error) {
	raw, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return postmaster{}, fmt.Errorf("read postmaster.pid: %w", err)
	}
	lines := strings.Split(string(raw), "\n")
	var pm postmaster
	// A file that is empty or garbled (disk full, crash) leaves pid 0, which no process has: stale.
	if pid, err := strconv.Atoi(strings.TrimSpace(lines[0])); err == nil && pid > 0 {
		pm.pid = pid
	}
	if len(lines) > 4 {
		pm.socket = strings.TrimSpace(lines[4])
	}
	return pm, nil
}

// state is what is going on with the server of a cluster.
type state int

const (
	gone  state = iota // no postmaster.pid
	stale              // a postmaster.pid whose process is dead or somebody else's
	busy               // the server runs but takes no connections: it starts, stops or hangs
	ready              // the server takes connections
)

// probe finds out how the server on data does.
func probe(ctx context.Context, data string) (state, postmaster, error) {
	pm, err := readPostmaster(data)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return gone, pm, nil
	case err != nil:
		return gone, pm, err
	}
	runs := isPostmaster(pm.pid, data)
	// The connection decides before the pid does: in another pid namespace, such as a container that shares the
	// directory, the pid means nothing.
	if pm.socket != "" && answers(ctx, pm.socket) {
		return ready, pm, nil
	}
	if runs {
		return busy, pm, nil
	}
	return stale, pm, nil
}

// answers reports whether a server takes connections at the socket. One that is full takes them as well: it is alive.
func answers(ctx context.Context, socketDir string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	connector, err := pq.NewConnector(socketURL(socketDir, "postgres"))
	if err != nil {
		return false
	}
	conn, err := connector.Connect(ctx)
	if err == nil {
		// The answer is known; how the probe's own connection closes changes nothing.
		_ = conn.Close()
		return true
	}
	refused, ok := errors.AsType[*pq.Error](err)
	return ok && refused.Code != cannotConnectNow
}

// clusterMajor returns the major version of the cluster in data, 0 when there is none.
func clusterMajor(data string) (int, error) {
	raw, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		entries, err := os.ReadDir(data)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, fmt.Errorf("look into the data directory: %w", err)
		}
		if len(entries) > 0 {
			return 0, fmt.Errorf("%s is neither empty nor a PostgreSQL cluster (no PG_VERSION); nothing was changed: move it away, or choose another data directory", data)
		}
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the cluster's version: %w", err)
	}
	major, _, _ := strings.Cut(strings.TrimSpace(string(raw)), ".")
	n, err := strconv.Atoi(major)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%s/PG_VERSION holds %q, which is no version", data, strings.TrimSpace(string(raw)))
	}
	return n, nil
}
