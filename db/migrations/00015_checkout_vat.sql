-- +goose Up
-- Whether the payer of a top-up is asked for a VAT number: chosen when Stripe is first asked for its session and kept, since
-- Stripe refuses a repeated idempotency key with other parameters. NULL until then.
ALTER TABLE top_ups ADD COLUMN collects_vat boolean;
GRANT UPDATE (collects_vat) ON top_ups TO ringfence_app;
