package faulttest

// These tests build and run the program, which go test does not know: it would take yesterday's result for today's
// program. Naming the program's parts here makes their sources part of what a cached result is for.
import (
	_ "ringfence/handlers"
	_ "ringfence/jobs"
)
