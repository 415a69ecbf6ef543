package auth

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
)

// minSealKey is the shortest key that sealing keys are derived from, in bytes.
const minSealKey = 32

// sealer keeps secrets in the database: AES-256-GCM with a random nonce, bound to what they are and whose. The first key
// seals, all of them open, so keys roll as the session keys do that they are derived from.
type sealer struct{ keys []cipher.AEAD }

// errUnsealed says that none of the keys opens the text: it was changed, belongs to something else, or its key is gone.
var errUnsealed = errors.New("the sealed value does not open")

func newSealer(keys [][]byte) (sealer, error) {
	var s sealer
	for i, key := range keys {
		if len(key) < minSealKey {
			return sealer{}, fmt.Errorf("sealing key %d has %d bytes, it needs at least %d", i+1, len(key), minSealKey)
		}
		derived, err := hkdf.Key(sha256.New, key, nil, "ringfence auth: seal", 32)
		if err != nil {
			return sealer{}, fmt.Errorf("couldn't derive a sealing key: %w", err)
		}
		block, err := aes.NewCipher(derived)
		if err != nil {
			return sealer{}, fmt.Errorf("couldn't make a cipher: %w", err)
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return sealer{}, fmt.Errorf("couldn't make a cipher: %w", err)
		}
		s.keys = append(s.keys, aead)
	}
	return s, nil
}

// seal closes plain, to be opened under the same label only.
func (s sealer) seal(plain []byte, label string) ([]byte, error) {
	if len(s.keys) == 0 {
		return nil, errors.New("no sealing key is configured")
	}
	return s.keys[0].Seal(nil, nil, plain, []byte(label)), nil //nolint:gosec // this kind of AEAD draws the nonce itself, and wants none
}

// open gives what seal closed under label.
func (s sealer) open(sealed []byte, label string) ([]byte, error) {
	for _, key := range s.keys {
		if plain, err := key.Open(nil, nil, sealed, []byte(label)); err == nil {
			return plain, nil
		}
	}
	return nil, errUnsealed
}
