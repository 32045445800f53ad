package api

import (
	"net/http"

	"vedette/internal/service"
)

// routes is every route of the API, each with the permission it needs.
func (s *server) routes() []route {
	const get, post, put, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	return []route{
		on(get, "/setup", service.Public, "Is a first administrator still to be made?", s.setupState),
		created(on(post, "/setup", service.Public, "Make the first administrator", s.setUp)),
		created(on(post, "/sessions", service.Public, "Log in", s.logIn)),
		on(del, "/sessions", service.Credentials, "Log out", s.logOut),
		on(get, "/me", service.Self, "Who am I?", s.me),
		on(put, "/me/password", service.Credentials, "Change my password, and end all my sessions", s.changePassword),
		created(on(post, "/users", service.Admin, "Make an account", s.createUser)),

		on(get, "/api-keys", service.Self, "My API keys", s.apiKeys),
		created(on(post, "/api-keys", service.Credentials, "Make an API key; it is shown once", s.createAPIKey)),
		on(del, "/api-keys/{id}", service.Credentials, "Revoke an API key", s.deleteAPIKey),

		on(get, "/check-types", service.Public, "Describe every check type: options, assertion sources, examples", s.checkTypes),

		on(get, "/monitors", service.Read, "List monitors", s.monitors),
		created(on(post, "/monitors", service.Write, "Make a monitor", s.createMonitor)),
		on(get, "/monitors/{id}", service.Read, "Read a monitor", s.monitor),
		on(put, "/monitors/{id}", service.Write, "Replace a monitor", s.updateMonitor),
		on(del, "/monitors/{id}", service.Write, "Delete a monitor and its results", s.deleteMonitor),
		on(post, "/monitors/{id}/pause", service.Write, "Pause a monitor", s.pause),
		on(post, "/monitors/{id}/resume", service.Write, "Resume a monitor", s.resume),
		accepted(on(post, "/monitors/{id}/check", service.Write, "Check now", s.checkNow)),
		on(put, "/monitors/{id}/status", service.Write, "Say how a manual monitor is", s.setStatus),
		on(get, "/monitors/{id}/pings", service.Read, "List a heartbeat's pings, newest first", s.listPings),
		on(post, "/monitors/{id}/ping-token", service.Write, "Give a heartbeat a new URL; the old one is refused", s.rotatePingToken),
		on(get, "/monitors/{id}/results", service.Read, "List results, newest first", s.results),
		on(get, "/monitors/{id}/uptime", service.Read, "Uptime, roll-ups and gaps", s.uptime),
		on(get, "/monitors/{id}/incidents", service.Read, "List a monitor's incidents", s.monitorIncidents),

		on(get, "/incidents", service.Read, "List incidents, newest first", s.incidents),
		on(get, "/incidents/{id}", service.Read, "Read an incident with timeline, evidence and deliveries", s.incident),
		on(post, "/incidents/{id}/acknowledge", service.Write, "Take care of an incident", s.acknowledge),
		created(on(post, "/incidents/{id}/comments", service.Write, "Comment on an incident", s.comment)),

		on(get, "/channels", service.Private, "List channels", s.channels),
		created(on(post, "/channels", service.Write, "Make a channel; its secret is shown once", s.createChannel)),
		on(get, "/channels/{id}", service.Private, "Read a channel", s.channel),
		on(put, "/channels/{id}", service.Write, "Replace a channel", s.updateChannel),
		on(del, "/channels/{id}", service.Write, "Delete a channel", s.deleteChannel),
		accepted(on(post, "/channels/{id}/test", service.Write, "Send a test", s.testChannel)),

		on(get, "/deliveries", service.Read, "List deliveries, newest first", s.deliveries),
		on(get, "/deliveries/{id}", service.Read, "Read a delivery with every attempt", s.delivery),
		accepted(on(post, "/deliveries/{id}/resend", service.Write, "Send again, under the same key", s.resend)),

		on(get, "/events", service.Read, "Follow changes as they happen (server-sent events)", s.events),
	}
}
