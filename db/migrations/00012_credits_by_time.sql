-- +goose Up
-- Every night each credit is held against Stripe's payments, a day's credits at a time. Credits are only ever added, so
-- where a day's lie is said in a few pages, and a credit costs next to nothing more.
CREATE INDEX credits_by_time ON credits USING brin (created_at);
