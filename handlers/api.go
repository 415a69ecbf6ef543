package handlers

import (
	"net/http"

	"github.com/google/uuid"

	"ringfence/internal/auth"
	"ringfence/internal/fault"
)

// apiWallet is GET /api/v1/wallet: how the wallet stands, in pence. It needs the scope wallet:read.
func (a *app) apiWallet(w http.ResponseWriter, r *http.Request, v *visit) error {
	if err := may(v.who, auth.WalletRead); err != nil {
		return err
	}
	found, err := a.Wallets.Balances(r.Context(), []uuid.UUID{v.who.OrgID})
	if err != nil {
		return err
	}
	b, ok := found[v.who.OrgID]
	if !ok { // its organisation was made a moment ago
		return fault.New(fault.NotFound, "This organisation has no wallet yet. Try again in a minute.")
	}
	return writeJSON(w, http.StatusOK, struct {
		Balance   int64  `json:"balance_pence"`
		Held      int64  `json:"held_pence"`
		Debt      int64  `json:"debt_pence"`
		Available int64  `json:"available_pence"`
		Currency  string `json:"currency"`
	}{int64(b.Balance), int64(b.Held), int64(b.Debt), int64(b.Available()), "gbp"})
}
