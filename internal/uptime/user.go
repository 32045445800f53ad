package uptime

import "time"

// Role is what a user may do; see Scope for what a key narrows it to.
type Role string

const (
	RoleAdmin  Role = "admin"  // manages everything
	RoleEditor Role = "editor" // creates and manages what is theirs, sees nothing of others
	RoleViewer Role = "viewer" // reads monitors, incidents and deliveries of the installation; changes nothing
)

// User is an account.
type User struct {
	ID           int64
	Email        string // lower case
	PasswordHash string // argon2id, PHC string
	Role         Role
	CreatedAt    time.Time
}

// Scope is what an API key allows of what its user may.
type Scope string

const (
	ScopeRead  Scope = "read"
	ScopeWrite Scope = "write"
)

// APIKey is a credential for programs. Only the SHA-256 of the key is kept.
type APIKey struct {
	ID         int64
	UserID     int64
	Name       string
	Prefix     string // the first characters of the key, to recognise it by
	Scope      Scope
	CreatedAt  time.Time
	LastUsedAt time.Time // to the minute; zero if never
	ExpiresAt  time.Time // zero: never
}

// Session is a browser that logged in. Only the SHA-256 of its token is kept.
type Session struct {
	ID        int64
	UserID    int64
	CreatedAt time.Time
	SeenAt    time.Time
	ExpiresAt time.Time
}
