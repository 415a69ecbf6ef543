//go:build drill

package faulttest

import "testing"

// TestSlowBodies: five hundred clients that send their bodies byte by byte are cut off as well.
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	slowClients(t, "POST /api/webhooks/stripe HTTP/1.1\r\nHost: localhost\r\nStripe-Signature: t=1,v1=00\r\nContent-Length: 100000\r\n\r\n{")
}
