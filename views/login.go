package views

// DemoAccount is an account of the development seed.
type DemoAccount struct {
	Email, Password string
	// Describes says what the account can do.
	Describes string
}

// LoginPage is the model of the sign-in page.
type LoginPage struct {
	Meta PageMeta
	// Email is what was typed.
	Email string
	// Error is the sentence about an attempt that failed, or about too many of them.
	Error string
	// EmailError and PasswordError belong beside their fields.
	EmailError, PasswordError string
	// Notice is a neutral sentence, such as after signing out.
	Notice string
	// Next is the path to go to afterwards, already checked to be one of ours.
	Next string
	// SignUp offers to create an account.
	SignUp bool
	// Demo are the accounts to offer; empty outside development.
	Demo []DemoAccount
}
