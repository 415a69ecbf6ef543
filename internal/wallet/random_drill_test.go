//go:build drill

package wallet_test

import (
	"strconv"
	"testing"
)

// TestStorms is TestStorm over and over, for twice as long and with four kills in each.
func TestStorms(t *testing.T) {
	seed := seeded(t)
	for i := range uint64(12) {
		t.Run(strconv.FormatUint(seed+i, 10), func(t *testing.T) { newStorm(t, seed+i).rage(16, 1250, 4) })
	}
}
