package app

import (
	"context"
	"crypto/rand"
	"fmt"

	"vedette/internal/service"
	"vedette/internal/uptime"
)

// demoEmail is the demo's administrator; the password is random and printed.
const demoEmail = "you@demo.example"

// seedDemo makes the demo's administrator, key, channel and monitors.
func (p *process) seedDemo(ctx context.Context) error {
	password := rand.Text()
	u, err := p.service.Bootstrap(ctx, demoEmail, password)
	if err != nil {
		return err
	}
	_, key, err := p.service.CreateAPIKeyFor(ctx, service.Local(), demoEmail, service.NewKey{Name: "demo", Scope: uptime.ScopeWrite})
	if err != nil {
		return err
	}
	actor := service.Actor{User: u, Scope: uptime.ScopeWrite}
	if _, _, err := p.service.CreateChannel(ctx, actor, p.demo.channel(u.ID)); err != nil {
		return err
	}
	for _, m := range p.demo.monitors(u.ID) {
		if _, err := p.service.CreateMonitor(ctx, actor, m); err != nil {
			return err
		}
	}
	fmt.Fprintf(p.out, `
demo: watching a local target that breaks every %s; its mails appear below
demo: log in as %s with %s, or look with
  curl -sS -H 'Authorization: Bearer %s' http://%s/api/v1/incidents

`, demoUp+demoDown, demoEmail, password, key, p.Addr())
	return nil
}
