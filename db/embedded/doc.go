// Package embedded runs a private PostgreSQL cluster out of the PostgreSQL binaries installed on the machine, so that
// a fresh clone needs no database server to be set up: development runs keep their data in one directory, and tests
// make throw-away clusters.
//
// It exists because the usual library for this deletes the data directory when its version does not match, and cannot
// run as root. This one never deletes a cluster, and as root it runs the server as an ordinary system user.
//
// # What lies where
//
// Options.Dir belongs to this package alone and holds:
//
//	lock          flock held while a process starts the cluster, so that two starters at once are safe
//	owner         flock held for life by the process that may stop the cluster; its pid is inside, for people
//	elsewhere     written only when the cluster had to go to another directory: names it
//	data/         the cluster
//	socket/       0700, the Unix socket; there is no TCP
//	postgres.log  what the server says
//
// Authentication is "trust": whoever can enter the 0700 socket directory is in. That is the user the server runs as,
// and root. The superuser is called ringfence.
//
// # Who owns the server
//
// Locks, not pids, say whether an owner lives: the kernel drops a flock when its process dies, however it dies, while
// a pid may be used again. On Linux the server is also told to shut down when its owner dies (PR_SET_PDEATHSIG), so
// that kill -9 of the owner leaves no server behind. A server that did outlive its owner is taken over by the next
// Start; one whose owner lives is adopted, and is then the owner's to stop.
package embedded
