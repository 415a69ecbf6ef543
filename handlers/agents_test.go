package handlers_test

import (
	"log/slog"

	"time"

	"github.com/google/uuid"

	"ringfence/internal/audit"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
)

// agentOptions are those of the site's agents; base is where the stand-ins are, empty where there are none.
func (s *site) agentOptions(gates *wallet.Gates, jobs telephony.JobInserter, log *slog.Logger, base string) telephony.AgentsOptions {
	o := telephony.AgentsOptions{
		DB: s.db, Gates: gates, Jobs: jobs, Log: log, Now: time.Now, Vault: s.vault,
		Events: telephony.VapiEvents{BaseURL: "http://127.0.0.1:8080", Secret: vapiSecret},
	}
	if base != "" {
		o.VapiKey, o.VapiBase, o.TwilioBase = vapiKey, base+"/vapi", base
	}
	return o
}

// told does what the queue would: our voice service is told about an agent.
func (s *site) told(org uuid.UUID, id string) telephony.Agent {
	s.t.Helper()
	at := uuid.MustParse(id)
	if err := s.agents.Sync(s.t.Context(), org, at); err != nil {
		s.t.Fatal(err)
	}
	a, err := s.agents.Agent(s.t.Context(), org, at)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// newAgent makes an agent of Harbour Dental's; with ready our voice service has been told.
func (s *site) newAgent(name string, ready bool) telephony.Agent {
	s.t.Helper()
	a, err := s.agents.Create(s.t.Context(), telephony.AgentRequest{
		OrgID: s.org, AgentFields: telephony.AgentFields{Name: name, Active: true, Voice: telephony.Voices[0], FirstMessage: "Hello", Prompt: "Be kind."}, Actor: audit.System("test"),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	if ready {
		return s.told(s.org, a.ID.String())
	}
	return a
}

// newNumber buys a number for Harbour Dental.
func (s *site) newNumber() telephony.Number {
	s.t.Helper()
	found, err := s.numbers.Search(s.t.Context(), telephony.SearchRequest{OrgID: s.org, Country: "US", Area: "212"})
	if err != nil || len(found.List) == 0 {
		s.t.Fatalf("%d numbers for sale: %v", len(found.List), err)
	}
	n, err := s.numbers.Buy(s.t.Context(), telephony.BuyRequest{OrgID: s.org, PhoneNumber: found.List[0].PhoneNumber, Key: uuid.NewString(), Actor: audit.System("test")})
	if err == nil {
		n = s.ready(s.org, n.ID.String())
	}
	if err != nil || n.State != telephony.NumberActive {
		s.t.Fatalf("%s is %s (%s): %v", n.PhoneNumber, n.State, n.Note, err)
	}
	return n
}
