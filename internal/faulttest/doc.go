// Package faulttest breaks the program from outside: it runs real processes over a real PostgreSQL with fsync on, takes
// away whatever they stand on (the process itself, the database, the disk, the answer on the wire) while signed events
// arrive, and then asks what every test of money asks. What was acknowledged is stored; what is stored is credited,
// once; `ringfence verify` finds nothing.
//
// The quick tests run with all others. Those that have to wait for real time to pass, and the great drill, have the
// build tag drill: `make drill`. Whatever is left to chance comes from a seed, which is printed and can be given again
// with RINGFENCE_FAULT_SEED.
package faulttest
