package db_test

import (
	"net"
	"net/url"
	"strings"
	"testing"

	"ringfence/db"
	"ringfence/db/dbtest"
)

// TestSeveralHosts: of the hosts that DATABASE_URL names, the one that takes writes is used, by both drivers, in each
// form that libpq documents. Here the first one refuses connections.
func TestSeveralHosts(t *testing.T) {
	u := dbtest.URL(t)
	target, err := url.Parse(u)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(target.Path, "/")
	proxied, _ := losesReplies(t, u)
	there, err := url.Parse(proxied)
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(there.Host)
	if err != nil {
		t.Fatal(err)
	}
	for form, several := range map[string]string{
		"URL":       "postgres://ringfence@127.0.0.1:9," + there.Host + "/" + name + "?sslmode=disable",
		"query":     "postgres://ringfence@/" + name + "?sslmode=disable&host=127.0.0.1," + host + "&port=9," + port,
		"key=value": "user=ringfence dbname=" + name + " sslmode=disable host=127.0.0.1," + host + " port=9," + port,
	} {
		t.Run(form, func(t *testing.T) {
			if err := db.Migrate(t.Context(), several, quiet); err != nil {
				t.Fatal(err)
			}
			d := dbtest.OpenURL(t, several, nil)
			if err := d.Ping(t.Context()); err != nil {
				t.Error(err)
			}
			listener, err := d.Listener(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			if err := listener.Ping(t.Context()); err != nil {
				t.Errorf("the listener: %v", err)
			}
		})
	}
}

// TestReadOnlyServersAreLeft: a connection on which nothing can be written is no connection, even to the only host.
func TestReadOnlyServersAreLeft(t *testing.T) {
	u := dbtest.URL(t)
	target, err := url.Parse(u)
	if err != nil {
		t.Fatal(err)
	}
	d := dbtest.OpenURL(t, u, nil)
	dbtest.Super(t, u, `ALTER DATABASE `+strings.TrimPrefix(target.Path, "/")+` SET default_transaction_read_only = on`)
	if _, err := db.Open(t.Context(), u, db.Options{}); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("it was opened: %v", err)
	}
	listener, err := d.Listener(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := listener.Ping(t.Context()); err == nil {
		t.Error("the listener took a connection that is read-only")
	}
}
