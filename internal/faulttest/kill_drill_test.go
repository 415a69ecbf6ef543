//go:build drill

package faulttest

import "testing"

// TestKilledWorkerForReal is TestKilledWorker with the time really passing.
func TestKilledWorkerForReal(t *testing.T) {
	t.Parallel()
	killedWorker(t, func(*world) {})
}
