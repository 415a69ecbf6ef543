package handlers_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"

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

var _ = (*testing.T)(nil)
