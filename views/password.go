package views

// ForgotPage is the model of the page that asks for a new password.
type ForgotPage struct {
	Meta PageMeta
	// Email is what was typed.
	Email string
	// Error is about the attempt as a whole, EmailError belongs beside its field.
	Error, EmailError string
	// Sent says that somebody asked a moment ago, whoever it was.
	Sent bool
	// Elsewhere says that a sign-in provider keeps the passwords, Mails that letters can be sent.
	Elsewhere, Mails bool
}

// ResetPage is the model of the page where a new password is chosen.
type ResetPage struct {
	Meta          PageMeta
	Token         string
	PasswordError string
	// Error is about the attempt as a whole.
	Error string
}
