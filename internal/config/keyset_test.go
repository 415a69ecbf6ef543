package config_test

import (
	"strings"
	"testing"

	"ringfence/internal/config"
)

// A keyset grows by a new primary key and shrinks to it again; both are keysets that a process starts with.
func TestKeyset(t *testing.T) {
	first, err := config.NewKeyset("")
	if err != nil {
		t.Fatal(err)
	}
	both, err := config.NewKeyset(first)
	if err != nil {
		t.Fatal(err)
	}
	last, err := config.PrimaryKeyset(both)
	if err != nil {
		t.Fatal(err)
	}
	if last == first || len(both) < len(first)*3/2 || len(last) > len(both)*2/3 {
		t.Errorf("keysets of %d, %d and %d characters", len(first), len(both), len(last))
	}
	for _, made := range []string{first, both, last} {
		c := load(t, with(production(), "RINGFENCE_ENCRYPTION_KEYSET", made))
		if binary := c.EncryptionKeyset.Reveal(); binary == "" || binary == made {
			t.Errorf("a keyset of %d characters became %d bytes", len(made), len(binary))
		}
	}
	for _, make := range []func(string) (string, error){config.NewKeyset, config.PrimaryKeyset} {
		if _, err := make(first[:60]); err == nil || strings.Contains(err.Error(), first[:60]) {
			t.Errorf("half a keyset: %v", err)
		}
	}
}
