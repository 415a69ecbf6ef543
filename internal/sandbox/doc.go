// Package sandbox stands in for the vendors during development and tests: real HTTP, with state that survives
// restarts and faults on demand, so that the unchanged production clients work against it and nothing in production
// code needs to know that it exists. It listens on loopback only.
//
// Stripe is served under /v1 (API version of stripe-go v76), its hosted checkout page under /c/pay/, its controls
// under /sandbox/stripe/, and an overview of everything at /.
//
// The sandbox imitates what is documented at https://docs.stripe.com/api and refuses what it does not imitate: a
// parameter it would have to ignore is a 400, never a silent success.
package sandbox
