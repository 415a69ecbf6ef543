package views

import "time"

const privacyPath = "/settings/privacy"

// PrivacyPage is where an owner says for how long words are kept, and has a person erased.
type PrivacyPage struct {
	Meta PageMeta
	// CanChange is whether this person may change anything here.
	CanChange bool
	// Days is what was typed, or what is stored; Kept is what is stored, Most the longest, Default what it is unless somebody says
	// otherwise.
	Days, DaysError     string
	Kept, Most, Default int
	// Shorter is the number of days that was asked for where it is less than what is kept; 0: it is not.
	Shorter int
	// Number is what was typed; NumberError and ConfirmError are what is wrong with it.
	Number, NumberError, ConfirmError string
	// Saved says that the days were stored, Erased what was erased; nil: nobody was.
	Saved  bool
	Erased *ErasedPerson
	// Problem is why nobody was erased, where no field is to blame.
	Problem string
	Now     time.Time
}

// ErasedPerson says what was erased about a person.
type ErasedPerson struct {
	// Number is masked.
	Number               string
	Calls, Texts, Others int64
}

func (e ErasedPerson) nothing() bool { return e.Calls == 0 && e.Texts == 0 && e.Others == 0 }

func times(n int) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return count(int64(n)) + " times"
}
