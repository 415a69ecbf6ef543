package db

import (
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
)

// Violated reports whether err is Postgres refusing a row because of the named constraint or unique index. Domain
// packages translate by it, beside the statement that can meet it.
func Violated(err error, constraint string) bool {
	e := pq.As(err, pqerror.UniqueViolation, pqerror.CheckViolation, pqerror.ForeignKeyViolation, pqerror.NotNullViolation)
	return e != nil && e.Constraint == constraint
}

// BadValue reports whether Postgres could not represent a parameter at all: a NUL byte or broken UTF-8 in a text, a
// number out of range. Trying again cannot help.
func BadValue(err error) bool {
	return pq.As(err, pqerror.UntranslatableCharacter, pqerror.CharacterNotInRepertoire,
		pqerror.NumericValueOutOfRange, pqerror.StringDataRightTruncation, pqerror.InvalidTextRepresentation) != nil
}
