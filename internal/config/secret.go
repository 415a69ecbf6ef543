package config

import (
	"fmt"
	"io"
	"log/slog"
)

const masked = "[secret]"

// Secret is a value that must never be shown: however it is printed, logged or encoded, "[secret]" comes out. Reveal is
// the only way to the value, so every use of one can be found by that name.
//
// The value stands behind a pointer because fmt, inside another struct's unexported field, calls no methods and would
// print a plain string.
type Secret struct{ value *string }

// NewSecret wraps a value.
func NewSecret(value string) Secret { return Secret{&value} }

// Reveal gives the value itself, for the one call that needs it; "" when unset. Do not keep, log or wrap it in errors.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// IsSet reports whether there is a value; the empty string is none.
func (s Secret) IsSet() bool { return s.Reveal() != "" }

// String gives "[secret]".
func (Secret) String() string { return masked }

// GoString gives "[secret]".
func (Secret) GoString() string { return masked }

// Format writes "[secret]" whatever the verb.
func (Secret) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, masked) }

// LogValue gives "[secret]" to slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(masked) }

// MarshalText gives "[secret]" to JSON and to whatever else asks for text.
func (Secret) MarshalText() ([]byte, error) { return []byte(masked), nil }

// UnmarshalText takes any text as the value.
func (s *Secret) UnmarshalText(b []byte) error {
	*s = NewSecret(string(b))
	return nil
}
