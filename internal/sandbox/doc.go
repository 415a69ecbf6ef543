// Package sandbox stands in for the vendors during development and tests: real HTTP, with state that survives
// restarts and faults on demand, so that the unchanged production clients work against it and nothing in production
// code needs to know that it exists. It listens on loopback only.
//
// Stripe is served under /v1 (API version of stripe-go v76), its hosted checkout page under /c/pay/, its controls
// under /sandbox/stripe/, and an overview of everything at /.
//
// The hosted page offers Stripe's card numbers for tests (the form field card; none is 4242…). A saved card can be given
// another fate, or be detached, by its buttons on the overview and by POST /sandbox/stripe/payment_methods/{id}/outcome
// (outcome=succeed, card_declined, insufficient_funds, authentication_required or expired_card) and …/{id}/detach.
//
// A session with invoice_creation makes an invoice (its page is /sandbox/stripe/invoices/{id}); one with tax_id_collection asks
// for a VAT number (the form fields tax_id and business_name).
//
// Twilio is served under /2010-04-01/ (messages: a client's transport has to send to this host, and name it in the
// Host header, what it would send to Twilio's), its page and its controls under /sandbox/twilio/. Besides the magic
// numbers of Twilio's test credentials there are NumberUndelivered, NumberFailed and NumberSilent.
//
// Mail is taken by SMTP at an address of its own; its page is /sandbox/mail, and /sandbox/mail.json?to= gives the messages
// to somebody, newest first.
//
// The sandbox imitates what is documented at https://docs.stripe.com/api and https://www.twilio.com/docs/messaging/api
// and refuses what it does not imitate: a parameter it would have to ignore is a 400, never a silent success.
package sandbox
