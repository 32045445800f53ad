package config

// UsageError is a combination of options that cannot work. Its text says what to
// do instead; a command that meets one exits with status 2.
type UsageError string

// Error is the sentence.
func (e UsageError) Error() string { return string(e) }

// UserCreate are the options of `vedette user create`.
type UserCreate struct {
	Storage       `embed:""`
	Email         string `help:"Address of the account." required:""`
	PasswordStdin bool   `help:"Read the password from standard input; its only source, so that it is in no process list." required:""`
	Role          string `help:"admin, editor or viewer." enum:"admin,editor,viewer" default:"editor"`
}

// APIKeyCreate are the options of `vedette api-key create`.
type APIKeyCreate struct {
	Storage `embed:""`
	User    string `help:"Address of the account that the key acts for." required:""`
	Name    string `help:"What the key is for." default:"command line"`
	Scope   string `help:"read or write." enum:"read,write" default:"write"`
}

// Check are the options of `vedette check`.
type Check struct {
	JSON           bool   `help:"Print the outcome as JSON."`
	Type           string `help:"Check type of the target: http, dns, tcp, …" placeholder:"TYPE"`
	File           string `help:"Monitor as JSON, in the shape of the API." type:"existingfile" placeholder:"FILE"`
	Curl           string `help:"The request of a curl command line, in quotes; - reads the line from standard input, so that its secrets are in no process list." placeholder:"LINE"`
	PrintMonitor   bool   `help:"Print the monitor that makes this check, as JSON for the API, and check nothing. Its secrets are in it."`
	PrivateTargets string `help:"As for serve." default:"allow" env:"VEDETTE_PRIVATE_TARGETS" placeholder:"POLICY"`
	Target         string `arg:"" optional:"" help:"What to check: a URL, TYPE:TARGET, or with --type the target alone."`
}

// Validate wants one of a target, a file and a curl line.
func (c *Check) Validate() error {
	given := 0
	for _, s := range []string{c.Target, c.File, c.Curl} {
		if s != "" {
			given++
		}
	}
	if given != 1 {
		return UsageError("check: name one target, or give --file monitor.json, or --curl 'curl …'")
	}
	if c.Type != "" && c.Target == "" {
		return UsageError("check: --type goes with a target; a file and a curl line say their own")
	}
	return nil
}
