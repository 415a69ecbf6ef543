package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/internal/audit"
	"ringfence/internal/money"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
)

const (
	// benchNumbers is how many phone numbers an organisation for measurements has, each with an agent.
	benchNumbers = 3
	// benchTexts and benchCalls are how many texts it sent and calls it made.
	benchTexts = 20
	benchCalls = 5
	// benchPhonesCost is what all of that costs at most.
	benchPhonesCost money.Pence = 100_00
	// benchPatience is how long the running server may take to get one of them done.
	benchPatience = 90 * time.Second
)

// benchPhones makes sure that an organisation has numbers and agents, and calls and texts behind it, so that its pages show
// what those of customers do. All of it goes the way of everything else: the running server's jobs and the sandbox do it. It
// is safe to repeat.
func (a *app) benchPhones(ctx context.Context, org uuid.UUID) error {
	actor := audit.System("bench")
	err := a.db.InTx(ctx, []uuid.UUID{org}, func(ctx context.Context, tx *db.Tx) error {
		_, err := wallet.Adjust(ctx, tx, wallet.AdjustmentRequest{
			OrgID: org, Kind: wallet.Adjustment, Amount: benchPhonesCost, Reason: "For measurements", Reference: "bench-phones", Actor: actor,
		})
		return err
	})
	if err != nil {
		return err
	}
	had, err := a.numbers.Had(ctx, org, benchNumbers)
	if err != nil {
		return err
	}
	numbers := had.List
	for len(numbers) < benchNumbers {
		n, err := a.benchNumber(ctx, org, actor)
		if err != nil {
			return err
		}
		numbers = append(numbers, n)
	}
	// In the order in which they were bought, so that a repeat asks for the same.
	slices.SortFunc(numbers, func(x, y telephony.Number) int { return bytes.Compare(x.ID[:], y.ID[:]) })
	agents := make([]telephony.Agent, benchNumbers)
	for i := range agents {
		if agents[i], err = a.benchAgent(ctx, org, i, numbers[i].ID, actor); err != nil {
			return err
		}
	}
	for i := range benchTexts {
		if _, err := a.messages.Send(ctx, telephony.SendRequest{
			OrgID: org, To: demoPatients[i%len(demoPatients)].number, From: numbers[i%benchNumbers].PhoneNumber, Body: "For measurements", Key: fmt.Sprint("bench-text-", i), Actor: actor,
		}); err != nil {
			return err
		}
	}
	for i := range benchCalls {
		if _, err := a.calls.Place(ctx, telephony.PlaceRequest{
			OrgID: org, Agent: agents[i%benchNumbers].ID, To: demoPatients[i%len(demoPatients)].number, Key: fmt.Sprint("bench-call-", i), Actor: actor,
		}); err != nil {
			return err
		}
	}
	return a.await(ctx, "what became of the calls and texts", func() (done bool, err error) {
		under, err := a.calls.UnderWay(ctx, org)
		return under.Calls+under.Texts == 0, err
	})
}

// benchNumber buys a number that takes calls and texts.
func (a *app) benchNumber(ctx context.Context, org uuid.UUID, actor audit.Actor) (n telephony.Number, err error) {
	offers, err := a.numbers.Search(ctx, telephony.SearchRequest{OrgID: org, Country: "US"})
	if err != nil {
		return n, err
	}
	at := slices.IndexFunc(offers.List, func(o telephony.Offer) bool { return o.Voice && o.SMS && o.Needs == "" })
	if at < 0 {
		return n, errors.New("the sandbox has no number for sale")
	}
	n, err = a.numbers.Buy(ctx, telephony.BuyRequest{OrgID: org, PhoneNumber: offers.List[at].PhoneNumber, Key: uuid.NewString(), Actor: actor})
	if err != nil {
		return n, err
	}
	return n, a.await(ctx, "a number", func() (done bool, err error) { // it is on offer until then
		n, err = a.numbers.Number(ctx, org, n.ID)
		return n.State == telephony.NumberActive, err
	})
}

// benchAgent makes sure of the i-th agent, which answers a number.
func (a *app) benchAgent(ctx context.Context, org uuid.UUID, i int, number uuid.UUID, actor audit.Actor) (agent telephony.Agent, err error) {
	fields := demoAgents[i%len(demoAgents)]
	fields.Name, fields.Active, fields.CallerID, fields.ForwardTo = fmt.Sprintf("%s %d", fields.Name, i+1), true, uuid.NullUUID{}, ""
	made, err := a.agents.Create(ctx, telephony.AgentRequest{OrgID: org, AgentFields: fields, Key: fmt.Sprint("bench-agent-", i), Actor: actor})
	if err == nil && !made.NumberID.Valid {
		_, err = a.agents.Link(ctx, org, made.ID, number, actor)
	}
	if err != nil {
		return agent, err
	}
	return agent, a.await(ctx, "an agent", func() (done bool, err error) {
		agent, err = a.agents.Agent(ctx, org, made.ID)
		return agent.Sync == telephony.Synced, err
	})
}

// await asks every now and then until the running server has done what is waited for.
func (a *app) await(ctx context.Context, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, benchPatience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s didn't come within %s: is the server running, with jobs and the sandbox?", what, benchPatience)
		}
	}
}
