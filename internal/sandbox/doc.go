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
// Mail is taken by SMTP at an address of its own; its page is /sandbox/mail, and /sandbox/mail.json?to= gives the messages
// to somebody, newest first.
//
// Twilio is served under /2010-04-01/ (accounts, numbers, messages, calls, caller ids, addresses) and
// /v2/RegulatoryCompliance/ (bundles): a client's transport has to send to this host, and name it in the Host header,
// what it would send to Twilio's. Its page for texts and its controls are under /sandbox/twilio/. Besides the magic
// numbers of Twilio's test credentials there are NumberUndelivered, NumberFailed and NumberSilent for texts, and
// NumberBusy, NumberNoAnswer, NumberUnreachable and NumberTalker for calls.
//
// Vapi is served under /vapi, for whoever has its key, and its controls are under /sandbox/vapi/. Its telephone is the
// sandbox's Twilio: a call of Vapi's is one of Twilio's too. What the person at the other end does, how long everything
// takes and what an assistant calls meanwhile is a CallScript. Numbers, calls and agents have a page at /sandbox/, where
// one can be the person who rings or texts.
//
// The sandbox imitates what is documented at https://docs.stripe.com/api, https://www.twilio.com/docs/usage/api and
// https://docs.vapi.ai/api-reference, and refuses what it does not imitate: a parameter it would have to ignore is a
// 400, never a silent success.
package sandbox
