-- +goose Up
-- How an event came to us: Stripe delivered it, or we found it in Stripe's list, or made it of what differed, while comparing
-- our books with Stripe's. Whether webhooks arrive can be told from the first alone.
ALTER TABLE stripe_events ADD COLUMN fetched boolean NOT NULL DEFAULT false;
