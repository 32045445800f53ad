package service

import (
	"vedette/internal/uptime"
)

// Actor is who asks. The zero Actor is somebody we do not know.
type Actor struct {
	User      uptime.User
	Scope     uptime.Scope // what the credential allows; a session allows writing
	SessionID int64        // 0 unless a session
	KeyID     int64        // 0 unless an API key
}

// Known reports whether somebody is logged in.
func (a Actor) Known() bool { return a.User.Role != "" }

// Local is the operator at the command line, who has the database in hand anyway.
func Local() Actor {
	return Actor{User: uptime.User{Role: uptime.RoleAdmin}, Scope: uptime.ScopeWrite, SessionID: -1}
}

// Permission is what an operation needs. Its zero value is no permission: a route
// that forgot to declare one does not start.
type Permission uint8

// Permissions, from the least.
const (
	Undeclared  Permission = iota
	Public                 // anybody
	Self                   // anybody we know, about their own account
	Credentials            // changes one's own credentials: a session, so that a leaked key makes no more keys
	Read                   // monitors, incidents, deliveries: theirs, or the installation's for admin and viewer
	Private                // reads what only those who manage it may: channels
	Write                  // changes: admin and editor, never a read key
	Admin                  // manages accounts: an administrator's session
)

// String is the permission as the API's documentation spells it.
func (p Permission) String() string {
	names := [...]string{"undeclared", "public", "self", "credentials", "read", "private", "write", "admin"}
	if int(p) < len(names) {
		return names[p]
	}
	return names[0]
}

// Authorise is the one place where it is decided who may do what. It returns
// nil, Unauthorized (we do not know you) or Forbidden (we do, and no).
func (a Actor) Authorise(p Permission) error {
	if p == Public {
		return nil
	}
	if !a.Known() {
		return uptime.Errorf(uptime.Unauthorized, "log in, or send an API key: Authorization: Bearer vdt_…")
	}
	role, manages := a.User.Role, a.User.Role == uptime.RoleAdmin || a.User.Role == uptime.RoleEditor
	switch {
	case p == Self || p == Read:
		return nil
	case p == Private && manages:
		return nil
	case p == Write && manages && a.Scope == uptime.ScopeWrite:
		return nil
	case p == Credentials && a.SessionID != 0:
		return nil
	case p == Admin && role == uptime.RoleAdmin && a.SessionID != 0:
		return nil
	case (p == Credentials || p == Admin) && a.SessionID == 0:
		return uptime.Errorf(uptime.Forbidden, "an API key cannot do this; log in")
	case a.Scope == uptime.ScopeRead && manages:
		return uptime.Errorf(uptime.Forbidden, "this API key may only read")
	}
	return uptime.Errorf(uptime.Forbidden, "your role, %s, may not do this", role)
}

// owner is whose things the store may return to a: 0 means everybody's.
func (a Actor) owner() int64 {
	if a.User.Role == uptime.RoleEditor {
		return a.User.ID
	}
	return 0
}

// may authorises and returns the owner for the store in one step, so that no
// method has one without the other.
func (a Actor) may(p Permission) (owner int64, err error) {
	if err := a.Authorise(p); err != nil {
		return -1, err
	}
	return a.owner(), nil
}

// viewer reports whether a must not see what only an owner may.
func (a Actor) viewer() bool { return a.User.Role == uptime.RoleViewer }
