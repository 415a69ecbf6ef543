package main

import (
	"context"
	"io"
)

// env is what a command gets of the world.
type env struct {
	ctx            context.Context //nolint:containedctx // handed to kong's Run methods, which take no context
	getenv         func(string) string
	stdout, stderr io.Writer
}

// commands is the command line.
type commands struct {
	Serve   serveCmd   `cmd:"" help:"Run the web server and, unless told otherwise, the job workers. In development also the database, the demo and the sandbox."`
	Work    workCmd    `cmd:"" help:"Run the job workers only."`
	Migrate migrateCmd `cmd:"" help:"Bring the database to this program's schema."`
	Seed    seedCmd    `cmd:"" help:"Put the demo organisations into the database (development only). Repeating changes nothing."`
	Sandbox sandboxCmd `cmd:"" help:"Run the local stand-in for the providers alone (development only)."`
	Doctor  doctorCmd  `cmd:"" help:"Show the effective configuration, without secrets, and check what can be reached."`
	Verify  verifyCmd  `cmd:"" help:"Check every invariant of the books. Exits 1 if one does not hold."`
	Stripe  stripeCmd  `cmd:"" help:"Manage the webhook endpoint at Stripe, test it, and compare our books with Stripe's."`
	Credit  creditCmd  `cmd:"" help:"Adjust a wallet, with a reason. The same reference again changes nothing."`
	APIKey  apiKeyCmd  `cmd:"" name:"apikey" help:"Make, list and revoke API keys."`
	// Operator is how the first one comes to be: no page makes one.
	Operator operatorCmd `cmd:"" help:"Make somebody an operator, or take that away."`
	// Credentials are the customers', which are kept sealed.
	Credentials credentialsCmd `cmd:"" help:"Make and roll the keys under which customers' credentials are sealed."`
	Bench       benchCmd       `cmd:"" help:"Prepare and run measurements against a running server."`
}
