//go:build !race

package browsertest

const judging = true
