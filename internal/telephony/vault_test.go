package telephony_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"ringfence/db"
	"ringfence/db/dbtest"
	"ringfence/internal/audit"
	"ringfence/internal/config"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet/wallettest"
)

// keysets are one, the same with a new primary key, and that without the old one.
func keysets(t *testing.T) (first, both, last string) {
	t.Helper()
	first, err := config.NewKeyset("")
	if err == nil {
		both, err = config.NewKeyset(first)
	}
	if err == nil {
		last, err = config.PrimaryKeyset(both)
	}
	if err != nil {
		t.Fatal(err)
	}
	return first, both, last
}

func newVault(t *testing.T, keyset string) *telephony.Vault {
	t.Helper()
	binary, err := base64.StdEncoding.DecodeString(keyset)
	if err != nil {
		t.Fatal(err)
	}
	v, err := telephony.NewVault(binary)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// sid is the id of some account of Twilio's.
func sid(n int) string { return fmt.Sprintf("AC%032x", n) }

func TestVault(t *testing.T) {
	url := dbtest.URL(t)
	d := dbtest.OpenURL(t, url, nil)
	org, other := wallettest.Org(t, d, "Harbour Dental", 0), wallettest.Org(t, d, "Second Tenant", 0)
	first, _, _ := keysets(t)
	v := newVault(t, first)
	tokens := map[uuid.UUID]string{org: "token-of-harbour-0001", other: "token-of-second-0002"}
	ids := map[uuid.UUID]uuid.UUID{}
	for at, token := range tokens {
		c, err := v.SaveCredential(t.Context(), d, at, telephony.Managed, sid(1), token)
		if err != nil {
			t.Fatal(err)
		}
		ids[at] = c.ID
		if strings.Contains(fmt.Sprintf("%+v", c), token) || strings.Contains(string(c.Sealed), token) || !strings.HasSuffix(token, c.LastFour) {
			t.Errorf("the credential shows its token: %+v", c)
		}
	}
	opens := func(at uuid.UUID, want string) {
		t.Helper()
		got, err := v.OpenCredential(t.Context(), d, at, telephony.Managed)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("opened %q, %v; want %q", got, err, want)
		}
	}
	for at, token := range tokens {
		opens(at, token)
	}

	// Sealed for another row, another organisation or another provider, it does not open.
	dbtest.Super(t, url, `UPDATE credentials c SET sealed = o.sealed FROM credentials o WHERE c.org_id = $1 AND o.org_id = $2`, org, other)
	opens(org, "")
	opens(other, tokens[other])
	dbtest.Super(t, url, `ALTER TABLE credentials DROP CONSTRAINT credentials_provider`)
	dbtest.Super(t, url, `UPDATE credentials SET id = $1 WHERE org_id = $2`, uuid.New(), other)
	opens(other, "")
	dbtest.Super(t, url, `UPDATE credentials SET id = $1 WHERE org_id = $2`, ids[other], other)
	opens(other, tokens[other])
	dbtest.Super(t, url, `UPDATE credentials SET sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1) WHERE org_id = $1`, other)
	opens(other, "")

	// A vault with other keys opens nothing, and half a keyset is none.
	stranger, _, _ := keysets(t)
	if _, err := newVault(t, stranger).OpenCredential(t.Context(), d, other, telephony.Managed); err == nil {
		t.Error("a vault with other keys opens it")
	}
	if _, err := telephony.NewVault([]byte(first[:20])); err == nil {
		t.Error("half a keyset makes a vault")
	}

	// Replacing keeps the row; whoever looks at everything does not see what is sealed.
	c, err := v.SaveCredential(t.Context(), d, org, telephony.Managed, sid(2), "another-token-0003")
	if err != nil || c.ID != ids[org] || c.AccountSID != sid(2) || c.LastFour != "0003" {
		t.Errorf("replaced as %+v, %v", c, err)
	}
	opens(org, "another-token-0003")
	err = d.InSystemTx(t.Context(), "a test", func(ctx context.Context, tx *db.Tx) error {
		_, err := tx.ExecContext(ctx, `SELECT sealed FROM credentials`)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("the system's role reads what is sealed: %v", err)
	}
	var audited []string
	dbtest.Select(t, url, &audited, `SELECT action FROM audit_log WHERE subject = $1 ORDER BY id`, "credential:"+ids[org].String())
	if !slices.Equal(audited, []string{"credential.saved", "credential.replaced"}) {
		t.Errorf("audited %v", audited)
	}
}

// Keys roll while the program works: under the old, under both, sealed anew, and under the new alone.
func TestReseal(t *testing.T) {
	url := dbtest.URL(t)
	d := dbtest.OpenURL(t, url, nil)
	orgs := wallettest.Orgs(t, d, 5, 0)
	first, both, last := keysets(t)
	for i, org := range orgs {
		if _, err := newVault(t, first).SaveCredential(t.Context(), d, org, telephony.BYOC, sid(i), fmt.Sprintf("token-of-org-%04d", i)); err != nil {
			t.Fatal(err)
		}
	}
	wantOpen := func(keyset string, want int) {
		t.Helper()
		n := 0
		for i, org := range orgs {
			if token, err := newVault(t, keyset).OpenCredential(t.Context(), d, org, telephony.BYOC); err == nil && token == fmt.Sprintf("token-of-org-%04d", i) {
				n++
			}
		}
		if n != want {
			t.Errorf("%d of 5 open, want %d", n, want)
		}
	}
	reseal := func(keyset string, now, before, stuck int) {
		t.Helper()
		r, err := newVault(t, keyset).Reseal(t.Context(), d, audit.CLI("tester"))
		if err != nil || r.Now != now || r.Before != before || len(r.Stuck) != stuck {
			t.Errorf("resealed %+v, %v; want %d now, %d before, %d stuck", r, err, now, before, stuck)
		}
	}
	wantOpen(both, 5)
	wantOpen(last, 0)
	reseal(last, 0, 0, 5) // without the old key nothing is done, and nothing is harmed
	wantOpen(first, 5)

	// One cannot be stored: those before it are sealed anew, and the next call goes on from there.
	var third uuid.UUID
	dbtest.Get(t, url, &third, `SELECT id FROM credentials ORDER BY id OFFSET 2 LIMIT 1`)
	dbtest.Super(t, url, `
		CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''planted''; END';
		CREATE TRIGGER planted BEFORE UPDATE ON credentials FOR EACH ROW WHEN (NEW.id = '`+third.String()+`') EXECUTE FUNCTION planted()`)
	r, err := newVault(t, both).Reseal(t.Context(), d, audit.CLI("tester"))
	if err == nil || r.Now != 2 {
		t.Errorf("resealed %+v, %v", r, err)
	}
	wantOpen(both, 5)
	wantOpen(last, 2)
	dbtest.Super(t, url, `DROP TRIGGER planted ON credentials; DROP FUNCTION planted`)
	reseal(both, 3, 2, 0)
	reseal(both, 0, 5, 0)
	wantOpen(last, 5)
	wantOpen(first, 0)
	reseal(last, 0, 5, 0)
}
