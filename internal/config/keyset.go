package config

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
)

// A keyset is Tink's, of AES-256-GCM keys, in its binary form and written as base64, so that it is one word without
// quotes (https://developers.google.com/tink/design/keysets). The primary key seals, all of them open.

// NewKeyset gives a new keyset of one key, or where there is one already, that one with a new primary key beside its old
// ones. Errors never quote what was given.
func NewKeyset(old string) (string, error) {
	manager := keyset.NewManager()
	if old != "" {
		handle, _, p := readKeyset(old)
		if p != nil {
			return "", errors.New("the present keyset " + p.what)
		}
		manager = keyset.NewManagerFromHandle(handle)
	}
	id, err := manager.Add(aead.AES256GCMKeyTemplate())
	if err != nil {
		return "", fmt.Errorf("couldn't make a key: %w", err)
	}
	if err := manager.SetPrimary(id); err != nil {
		return "", fmt.Errorf("couldn't make the new key the primary one: %w", err)
	}
	return writeKeyset(manager)
}

// PrimaryKeyset gives the keyset without all keys but its primary one.
func PrimaryKeyset(old string) (string, error) {
	handle, _, p := readKeyset(old)
	if p != nil {
		return "", errors.New("the present keyset " + p.what)
	}
	primary := handle.KeysetInfo().GetPrimaryKeyId()
	manager := keyset.NewManagerFromHandle(handle)
	for _, k := range handle.KeysetInfo().GetKeyInfo() {
		if k.GetKeyId() == primary {
			continue
		}
		if err := manager.Delete(k.GetKeyId()); err != nil {
			return "", fmt.Errorf("couldn't leave out an old key: %w", err)
		}
	}
	return writeKeyset(manager)
}

func writeKeyset(manager *keyset.Manager) (string, error) {
	handle, err := manager.Handle()
	if err != nil {
		return "", fmt.Errorf("couldn't make the keyset: %w", err)
	}
	var b bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewBinaryWriter(&b)); err != nil {
		return "", fmt.Errorf("couldn't write the keyset: %w", err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes()), nil
}

// readKeyset takes only what seals as [NewKeyset] makes it, and gives its binary form too.
func readKeyset(text string) (handle *keyset.Handle, binary []byte, p *problem) {
	const remedy = "Make one with: ringfence credentials keyset"
	binary, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, nil, &problem{"is not base64", remedy}
	}
	handle, err = insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(binary)))
	if err != nil {
		return nil, nil, &problem{"is not a keyset of Tink's", remedy}
	}
	for _, k := range handle.KeysetInfo().GetKeyInfo() {
		if !strings.HasSuffix(k.GetTypeUrl(), ".AesGcmKey") || k.GetOutputPrefixType() != tinkpb.OutputPrefixType_TINK {
			return nil, nil, &problem{"has a key that is not AES-GCM with Tink's prefix", remedy}
		}
	}
	if _, err := aead.New(handle); err != nil {
		return nil, nil, &problem{"has no key that seals", remedy}
	}
	return handle, binary, nil
}
