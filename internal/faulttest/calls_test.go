package faulttest

import (
	"net/http"
	"testing"

	"github.com/google/uuid"

	"ringfence/internal/failpoint"
)

// withAgent gives the organisation a number with an agent that Vapi has.
func (l *line) withAgent() *phone {
	x := l.ex
	x.t.Helper()
	p := l.order()
	p.comesTo("active")
	l.bought++
	var agent struct {
		ID string `json:"id"`
	}
	l.api(http.MethodPost, "/agents", map[string]string{"name": "Reception", "first_message": "Good morning.", "prompt": "You answer the phone."}, &agent)
	l.api(http.MethodPut, "/agents/"+agent.ID+"/number", map[string]string{"number_id": p.ID}, &struct{}{})
	until(x.t, "the agent to be at Vapi", func() bool {
		return x.number(`SELECT count(*) FROM agents WHERE id = $1 AND sync_state = 'synced'`, agent.ID) == 1
	})
	return p
}

// TestKilledWhileCalling: kill -9 of the web server that places a call, when its money is in flight and Vapi has not been
// asked, and when Vapi has it and nobody knows. What became of it is found out by asking: it is paid for exactly if it was
// made, and the request's repeat calls nobody a second time.
func TestKilledWhileCalling(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	l := x.line(harbour)
	p := l.withAgent()
	for _, c := range []struct {
		point string
		made  int64
		state string
	}{
		{failpoint.CallAfterAsk, 1, "completed"},
		{failpoint.CallBeforeAsk, 0, "failed"},
	} {
		before := x.vapiBooks().CallsMade.Made
		key, order := uuid.NewString(), map[string]string{"to": "+447400123456"}
		x.site.arm(c.point)
		if err := l.try(http.MethodPost, "/calls", key, order, &struct{}{}); err == nil {
			t.Fatal("the call was answered for")
		}
		x.site.killed()
		if n := x.number(`SELECT count(*) FROM calls WHERE state = 'placing'`); n != 1 {
			t.Errorf("killed at %s, %d calls are being placed", c.point, n)
		}
		x.site.start()
		x.site.ready()
		var again struct{ ID, State string }
		if err := l.try(http.MethodPost, "/calls", key, order, &again); err != nil {
			t.Errorf("its repeat: %v", err)
		}
		x.pass()
		x.hastening("the call to end", func() bool { return x.number(`SELECT count(*) FROM calls WHERE ended_at IS NULL`) == 0 })
		l.api(http.MethodGet, "/calls/"+again.ID, nil, &again)
		if again.State != c.state {
			t.Errorf("killed at %s, the call is %s, want %s", c.point, again.State, c.state)
		}
		if made := x.vapiBooks().CallsMade.Made - before; made != c.made {
			t.Errorf("killed at %s, Vapi has made %d calls, want %d", c.point, made, c.made)
		}
	}
	if n := x.number(`SELECT count(*) FROM calls WHERE amount_pence > 0 AND seconds > 0`); n != 1 {
		t.Errorf("%d calls are paid for, want the one that was made", n)
	}
	for _, made := range x.vapiBooks().Calls {
		if made.Status != "ended" {
			t.Errorf("a call at Vapi is %s", made.Status)
		}
	}
	x.whole()
	p.release()
	p.comesTo("released")
	x.whole()
}
